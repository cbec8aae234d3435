"""Every system passes the library's contract, on every kind of sequence and of target."""

import pytest

from examples.systems import affect_diff, carn, cider, gru, imder, linear, transformer
from mmaffect.data import DataSpec
from mmaffect.testing import CHECKS, check_all, check_system, system_cases

NARROW = {"hidden": 8, "heads": 2, "layers": 1, "feed_forward": 8, "prior_width": 8, "kernels": (1, 3)}
IMDER = {
    "hidden": 8,
    "heads": 2,
    "layers": 1,
    "memory_layers": 1,
    "network": "fast",
    "network_width": 8,
    "evaluations": 2,
    "training_evaluations": 2,
    "refinement_width": 16,
    "refinement_blocks": 1,
}
SMALL = {
    "affect_diff": (affect_diff, NARROW | {"prior": False}, True),
    "carn": (carn, {"hidden": 8, "heads": 2}, True),
    "gru": (gru, {"hidden": 6}, False),
    "bidirectional gru": (gru, {"hidden": 6, "bidirectional": True}, False),
    "linear": (linear, {}, True),
    "transformer": (transformer, {"hidden": 8, "heads": 2, "layers": 1}, True),
}
SPECS = {
    "dialogue": DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", 2, class_shares=(0.5, 0.3, 0.2)),
    "window": DataSpec({"a": 5, "b": 3, "c": 2}, "score", ("s",), "window"),
    "single": DataSpec({"a": 5, "b": 3}, "multilabel", ("x", "y"), "single"),
    "three scores": DataSpec({"a": 4}, "score", ("v", "a", "d"), "dialogue"),
}
# Tracing programs is what takes long; how a system compiles does not depend on the kind of target.
PROGRAMS = ("compile", "export")


def build_of(name):
    module, sizes, fullgraph = SMALL[name]
    return lambda spec: module.System(module.Config(**sizes), spec), fullgraph


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", SMALL)
def test_invariances(name, kind):
    build, fullgraph = build_of(name)
    check_system(build, SPECS[kind], fullgraph=fullgraph, only=[c for c in CHECKS if c not in PROGRAMS])


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "dialogue") for name in SMALL] + [("affect_diff", "single"), ("carn", "window"), ("carn", "single")],
)
def test_programs(name, kind):
    build, fullgraph = build_of(name)
    check_system(build, SPECS[kind], fullgraph=fullgraph, only=PROGRAMS)


@pytest.mark.parametrize("ablation", carn.ABLATIONS)
def test_ablations_of_carn_pass_too(ablation):
    config = carn.Config(hidden=8, heads=2, **carn.ABLATIONS[ablation])
    check_system(
        lambda spec: carn.System(config, spec), SPECS["dialogue"], only=["padding", "batch_order", "absent_values"]
    )


@pytest.mark.parametrize("kind", SPECS)
def test_affect_diff_with_its_prior(kind):
    """Whole on dialogues; elsewhere what the kind of sequence and of target changes."""
    chosen = [c for c in CHECKS if c not in PROGRAMS] if kind == "dialogue" else ["padding", "absent_values", "subsets"]
    config = affect_diff.Config(**NARROW, drawn=2 if kind == "dialogue" else 0, drawn_evaluations=2)
    check_system(lambda spec: affect_diff.System(config, spec), SPECS[kind], only=chosen)


@pytest.mark.parametrize("ablation", affect_diff.ABLATIONS)
def test_ablations_of_affect_diff_pass_too(ablation):
    config = affect_diff.Config(**(NARROW | affect_diff.ABLATIONS[ablation]))
    check_system(
        lambda spec: affect_diff.System(config, spec),
        SPECS["dialogue"],
        only=["padding", "batch_order", "absent_values"],
    )


@pytest.mark.parametrize("kind", SPECS)
def test_imder(kind):
    """Whole on dialogues; elsewhere what the kind of sequence and of target changes."""
    chosen = [c for c in CHECKS if c not in PROGRAMS] if kind == "dialogue" else ["padding", "absent_values"]
    check_system(lambda spec: imder.System(imder.Config(**IMDER), spec), SPECS[kind], only=chosen)


@pytest.mark.parametrize(("recovery", "programs"), [("diffusion", ["export"]), ("autoencoder", PROGRAMS)])
def test_programs_of_imder(recovery, programs):
    """Samplers make their schedule of numbers, which ``torch.compile`` does not trace and an export is given."""
    case = system_cases(
        lambda spec: imder.System(imder.Config(**(IMDER | {"recovery": recovery})), spec), SPECS["dialogue"]
    )
    check_all(case["forward"], programs)


# What stands in the place of the diffusion, and its other ways.
WAYS = {
    "autoencoder": {"recovery": "autoencoder", "autoencoder": (6,), "autoencoder_blocks": 2},
    "mean": {"recovery": "mean", "refinement": False},
    "zero": {"recovery": "zero"},
    "none": {"recovery": "none"},
    "unconditional": {"conditional": False},
    "joint": {"joint": True},
    "draws": {"draws": 3},
    "independent": {"condition_noise": "independent"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_recovery_of_imder_passes_too(way):
    config = imder.Config(**(IMDER | WAYS[way]))
    check_system(lambda spec: imder.System(config, spec), SPECS["dialogue"], only=["padding", "absent_values"])


CIDER = {"hidden": 8, "heads": 2, "layers": 1, "lengths": (4,)}


@pytest.mark.parametrize("kind", SPECS)
def test_cider(kind):
    """Whole where time is shared and where it is not; elsewhere what the kind of sequence and of target changes."""
    whole = kind in ("dialogue", "single")
    chosen = [c for c in CHECKS if c not in PROGRAMS] if whole else ["padding", "absent_values", "subsets"]
    check_system(lambda spec: cider.System(cider.Config(**CIDER), spec), SPECS[kind], only=chosen)


@pytest.mark.parametrize(
    ("kind", "change", "programs"), [("single", {"recurrence": False}, PROGRAMS), ("dialogue", {}, ["export"])]
)
def test_programs_of_cider(kind, change, programs):
    """Recurrent encoders may break the graph; everything else must not."""
    case = system_cases(lambda spec: cider.System(cider.Config(**(CIDER | change)), spec), SPECS[kind])
    check_all(case["forward"], programs)


@pytest.mark.parametrize("kind", ["dialogue", "single"])
@pytest.mark.parametrize("ablation", cider.ABLATIONS)
def test_ablations_of_cider_pass_too(ablation, kind):
    config = cider.Config(**CIDER, **cider.ABLATIONS[ablation])
    check_system(lambda spec: cider.System(config, spec), SPECS[kind], only=["padding", "absent_values"])
