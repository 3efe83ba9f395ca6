"""An activation has one value, in whichever form it is computed."""

from __future__ import annotations

import pytest
import torch

from darknet_py.layers.functions import ACTIVATIONS, IN_A_TRACE, IN_PLACE

VALUES = torch.cat((torch.linspace(-100, 100, 4001), torch.tensor([-1e4, 1e4, 0.0, 1e-6, -1e-6])))


@pytest.mark.parametrize(("forms", "name"), [(forms, name) for forms in (IN_PLACE, IN_A_TRACE) for name in forms])
def test_faster_forms_give_the_same_values(forms: dict[str, object], name: str) -> None:
    expected = ACTIVATIONS[name](VALUES)
    found = forms[name](VALUES.clone())  # type: ignore[operator]
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
