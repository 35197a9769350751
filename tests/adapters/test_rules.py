"""Every layer and every loss has its rule in every adapter, and what has none is named."""

from __future__ import annotations

from typing import get_args

import pytest

from gradconform import Unsupported
from gradconform.layers import Layer, Record
from gradconform.losses import Loss


class Conv2d(Record, frozen=True):
    """A layer that no adapter knows."""


@pytest.mark.parametrize("kind", get_args(Layer))
def test_every_layer_has_a_rule(adapter, kind):
    assert kind in adapter.module.layer_rule.registry


@pytest.mark.parametrize("kind", get_args(Loss))
def test_every_loss_has_a_rule(adapter, kind):
    assert kind in adapter.module.loss_rule.registry


def test_no_rule_is_for_anything_else(adapter):
    assert set(adapter.module.layer_rule.registry) == {object, *get_args(Layer)}
    assert set(adapter.module.loss_rule.registry) == {object, *get_args(Loss)}


def test_a_missing_layer_is_named(adapter):
    arguments = (3,) if adapter.name == "torch" else ({}, None)
    with pytest.raises(Unsupported, match=rf"^{adapter.name}: no rule for Conv2d$"):
        adapter.module.layer_rule(Conv2d(), *arguments)


def test_a_missing_loss_is_named(adapter):
    with pytest.raises(Unsupported, match=rf"^{adapter.name}: no rule for Conv2d$"):
        adapter.module.loss_rule(Conv2d(), None, None, None)
