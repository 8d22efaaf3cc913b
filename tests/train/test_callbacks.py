import io

from mowst.train import ProgressBar

RECORD = {"round": 2, "turn": "weak", "epoch": 7, "loss": 0.5, "val_loss": 0.25, "val": 0.75, "confidence": 0.125}


def test_progress_bar_shows_round_turn_loss_validation_and_confidence():
    out = io.StringIO()
    bar = ProgressBar(file=out, mininterval=0)
    bar(RECORD)
    bar(RECORD | {"round": 0, "turn": "strong alone"})
    shown = out.getvalue()
    for text in (
        "round 2, weak turn",
        "strong alone",
        "loss=0.5000",
        "val_loss=0.2500",
        "val=0.7500",
        "confidence=0.1250",
    ):
        assert text in shown
