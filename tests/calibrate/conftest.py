"""A calibrated toy study, shared."""

import pytest

from tests.calibrate.toy_study import ToyStudy


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory):
    """A toy study, calibrated once, without pictures: card, results, folder of the calibration."""
    pytest.importorskip("iminuit", reason="the extra `fit` is not installed")
    from pfnano_tag.calibrate import stage

    study = ToyStudy(tmp_path_factory.mktemp("toy") / "study")
    card = study.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "draw_all", lambda *arguments: [])
        return card, stage.run(card), study.folder / "calibration"
