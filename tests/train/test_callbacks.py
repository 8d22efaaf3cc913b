import io

from mowst.train import ProgressBar

RECORD = {
    "round": 2,
    "part": "weak",
    "epoch": 7,
    "loss": 0.5,
    "val_loss": 0.25,
    "val": 0.75,
    "confidence": 0.125,
}


def test_the_progress_bar_shows_stage_loss_validation_and_confidence():
    out = io.StringIO()
    bar = ProgressBar(file=out, mininterval=0)
    bar(RECORD | {"stage": "round 2: weak"})
    bar(RECORD | {"stage": "pretrain strong"})
    shown = out.getvalue()
    for text in (
        "round 2: weak",
        "pretrain strong",
        "loss=0.5000",
        "val_loss=0.2500",
        "val=0.7500",
        "confidence=0.1250",
    ):
        assert text in shown
