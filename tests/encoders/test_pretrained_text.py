import builtins
import json
import os
import subprocess
import sys

import pytest
import torch

from mmaffect.encoders import PretrainedText
from mmaffect.ops import InputError
from tests.text_models import minilm, tiny_model

IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3], [2, 3, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("bert"))


def test_states_are_those_of_transformers(folder):
    """Of real tokens, when padding is masked: one sentence at a time, unpadded, is what transformers itself gives."""
    from transformers import AutoModel

    peer = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    out = PretrainedText(folder).eval()(IDS, MASK)
    for row in (0, 1):
        length = int(MASK[row].sum())
        alone = peer(input_ids=IDS[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(out[row, :length], alone, atol=1e-5, rtol=1e-5)
    assert (out[~MASK] == 0).all()


def test_a_token_that_is_missing_is_not_attended_to_and_keeps_its_place(folder):
    model = PretrainedText(folder).eval()
    hole = MASK.clone()
    hole[1, 2] = False
    one = model(IDS, hole)[1]
    other = IDS.clone()
    other[1, 2] = 11
    torch.testing.assert_close(model(other, hole)[1], one)
    assert (one[2] == 0).all()
    assert not torch.allclose(model(other, MASK)[1, 0], one[0], atol=1e-3)
    closed = model(torch.tensor([[2, 7, 9, 3]]), torch.ones(1, 4, dtype=torch.bool))[0]
    assert not torch.allclose(closed[3], one[4], atol=1e-3)  # positions are by step, not by what is left


def test_no_id_under_a_mask_is_looked_up_and_nothing_has_no_gradient(folder):
    model = PretrainedText(folder).eval()
    garbage = torch.where(MASK, IDS, torch.tensor(10**9))
    torch.testing.assert_close(model(garbage, MASK), model(IDS, MASK))
    model(IDS, MASK)[2].sum().backward()
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


def test_fine_tuning_reaches_every_weight_and_can_be_off(folder):
    tuned = PretrainedText(folder)
    tuned(IDS, MASK).square().sum().backward()
    assert all(p.grad is not None for p in tuned.parameters())  # none would be unused on several processes
    frozen = PretrainedText(folder, trainable=False)
    out = frozen(IDS, MASK)
    assert not out.requires_grad
    assert not any(p.requires_grad for p in frozen.parameters())


def test_the_dropout_of_a_frozen_model_is_off(tmp_path):
    folder = tiny_model(tmp_path, dropout=0.5)
    tuned, frozen = PretrainedText(folder).train(), PretrainedText(folder, trainable=False).train()
    assert not torch.equal(tuned(IDS, MASK), tuned(IDS, MASK))
    assert torch.equal(frozen(IDS, MASK), frozen(IDS, MASK))
    assert torch.equal(PretrainedText(folder, trainable=False)(IDS, MASK), frozen(IDS, MASK))
    torch.testing.assert_close(tuned.eval()(IDS, MASK), frozen(IDS, MASK))
    assert frozen.training


def test_it_says_what_it_is(folder):
    model = PretrainedText(folder, trainable=False)
    assert (model.width, model.longest) == (8, 16)
    assert "bert, width=8, trainable=False" in repr(model)
    assert not any("pooler" in name for name in model.state_dict())


def test_weights_that_were_trained_come_back(folder, tmp_path):
    from safetensors.torch import load_model, save_model

    one, two = PretrainedText(folder).eval(), PretrainedText(folder).eval()
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.1)
    save_model(one, str(tmp_path / "w.safetensors"))
    load_model(two, str(tmp_path / "w.safetensors"))
    torch.testing.assert_close(two(IDS, MASK), one(IDS, MASK))


def test_sentences_longer_than_the_model_are_refused(folder):
    with pytest.raises(ValueError, match="ids: expected at most 16 tokens, the model's positions, got 17"):
        PretrainedText(folder)(torch.ones(1, 17, dtype=torch.int64), torch.ones(1, 17, dtype=torch.bool))


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (IDS.float(), MASK, "ids: expected an int64 tensor"),
        (IDS[..., None], MASK, r"ids: expected shape \(B, T\)"),
        (IDS, MASK.long(), "mask: expected bool"),
        (IDS, MASK[:, :3], r"mask: expected shape \(B, T\) with"),
    ],
)
def test_what_does_not_fit_is_said(folder, ids, mask, message):
    with pytest.raises(ValueError, match=message):
        PretrainedText(folder)(ids, mask)


def test_nothing_but_safetensors_of_an_encoder_is_read(folder, tmp_path):
    from transformers import BertModel, T5Config

    with pytest.raises(InputError, match=r"folder: .* is not there; expected a folder with config"):
        PretrainedText("sentence-transformers/all-MiniLM-L6-v2")  # no name of a model is looked up
    with pytest.raises(InputError, match=r"folder: .* has no config\.json; expected a folder with config"):
        PretrainedText(tmp_path)
    model = BertModel.from_pretrained(folder)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read as a model in safetensors"):
        PretrainedText(tmp_path)
    T5Config(d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="expected an encoder such as BERT, got t5, which decodes"):
        PretrainedText(tmp_path)


def test_no_code_that_lies_in_the_folder_is_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(InputError, match="cannot be read as a model in safetensors"):
        PretrainedText(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_the_extra_it_is_said_which(tmp_path, monkeypatch):
    usual = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "transformers":
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"transformers cannot be imported; expected the extra 'text' \(pip install"):
        PretrainedText(tmp_path)


def test_transformers_is_not_imported_with_the_room():
    code = "import sys, mmaffect.encoders, mmaffect.data; assert not {'transformers', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_loading_is_silent(folder, capfd):
    PretrainedText(folder)
    assert capfd.readouterr() == ("", "")


def test_half_precision_stays_close(folder):
    model = PretrainedText(folder).eval()
    reference = model(IDS, MASK)
    half = model.to(torch.bfloat16)(IDS, MASK)
    assert half.dtype == torch.bfloat16
    assert torch.isfinite(half).all()
    assert (half.float() - reference).norm() < 0.05 * reference.norm()


def test_a_real_model_reads_a_sentence_as_transformers_does():
    folder = minilm()
    from transformers import AutoModel

    ids = torch.tensor([[101, 2009, 2001, 2074, 4257, 102, 0], [101, 2821, 102, 0, 0, 0, 0]])
    model = PretrainedText(folder, trainable=False)
    peer = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    assert model.width == 384
    out = model(ids, ids != 0)
    for row, length in ((0, 6), (1, 3)):
        alone = peer(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(out[row, :length], alone, atol=1e-4, rtol=1e-4)
