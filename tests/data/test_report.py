import json
from dataclasses import asdict

from mmaffect.data import load_dataset


def test_a_report_can_be_read_and_stored(toy):
    report = load_dataset(toy.recipe(), toy.save()).report
    assert json.loads(json.dumps(asdict(report))) == asdict(report)
    text = str(report)
    assert text.startswith(f"toy as dialogue: {toy.rows} rows, {(toy.arrays['label'] >= 0).sum()} labelled\n")
    assert f"text: missing in {(~toy.arrays['has_text']).sum()} rows, 0 values not finite" in text
    train = toy.arrays["label"][toy.arrays["split"] == "train"]
    counts = ", ".join(f"{name} {(train == code).sum()}" for code, name in enumerate(("sad", "happy", "calm")))
    assert f"train: 4 samples; {counts}" in text
