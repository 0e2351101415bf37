from matplotlib.image import imread

from xrec_training.loss_curve import LOSSES_FILE, losses, plot_losses

LOG = [{"step": 2, "loss": 3.0}, {"step": 3, "eval_loss": 2.5}, {"step": 4, "loss": 2.0}, {"step": 4, "train_loss": 2.5}]


def test_the_curves_are_the_logged_losses(tmp_path):
    assert losses(LOG, "loss") == [(2, 3.0), (4, 2.0)]
    assert losses(LOG, "eval_loss") == [(3, 2.5)]
    path = plot_losses(LOG, tmp_path)
    assert path == tmp_path / LOSSES_FILE
    drawn = path.read_bytes()
    plot_losses(LOG, tmp_path)
    assert path.read_bytes() == drawn
    blue, orange = (31, 119, 180), (255, 127, 14)
    colours = {tuple(colour) for colour in (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3).tolist()}
    assert {blue, orange} <= colours


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert plot_losses([{"step": 4, "train_loss": 2.5}], tmp_path) is None
    assert list(tmp_path.iterdir()) == []
