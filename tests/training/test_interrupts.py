"""Ctrl-C and callbacks that stop a training: both are a KeyboardInterrupt."""

import os
import signal
import threading

import pytest
from skorch.callbacks import Callback

from skuq import TorchClassifier
from skuq._training._interrupts import CtrlC
from skuq.posteriors import PointEstimate
from tests import networks


def press_ctrl_c():
    """A signal to this process, whose handler runs before the loop ends."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10**6):
        pass


def stop():
    raise KeyboardInterrupt


def fit(blobs, on_epoch_end, **options):
    class Listener(Callback):
        pass

    Listener.on_epoch_end = on_epoch_end
    return TorchClassifier(
        networks.Plain, posterior=PointEstimate(), max_epochs=5, random_state=0,
        callbacks=[Listener], **options,
    ).fit(*blobs)  # fmt: skip


@pytest.fixture(autouse=True)
def same_handler():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def test_a_callback_stops_training_by_a_function_that_raises(blobs):
    def second_epoch(callback, net, **kwargs):
        if len(net.history) == 2:
            stop()

    assert fit(blobs, second_epoch).n_iter_ == 2


def test_ctrl_c_in_a_callback_is_not_a_stop(blobs):
    with pytest.raises(KeyboardInterrupt):
        fit(blobs, lambda callback, net, **kwargs: press_ctrl_c())


def test_a_callback_may_pass_ctrl_c_on(blobs):
    def cleans_up(callback, net, **kwargs):
        try:
            press_ctrl_c()
        except KeyboardInterrupt:
            net.history.record("cleaned", 1)
            raise

    with pytest.raises(KeyboardInterrupt):
        fit(blobs, cleans_up)


def test_a_callback_may_turn_ctrl_c_into_a_stop(blobs):
    def stops(callback, net, **kwargs):
        try:
            press_ctrl_c()
        except KeyboardInterrupt:
            asked = True
        if asked:
            raise KeyboardInterrupt

    assert fit(blobs, stops).n_iter_ == 1


def test_a_handler_of_the_user_that_only_takes_note(blobs):
    """Ctrl-C raises nothing then: what a callback raises later is a stop."""
    asked = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))

    def stops_when_asked(callback, net, **kwargs):
        if len(net.history) == 3:
            press_ctrl_c()
        if asked:
            stop()

    try:
        assert fit(blobs, stops_when_asked).n_iter_ == 3
        assert asked == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_a_thread_only_callbacks_raise(blobs):
    found = []

    def work():
        found.append(fit(blobs, lambda callback, net, **kwargs: stop()).n_iter_)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]


def test_what_ctrl_c_has_raised():
    with CtrlC() as ctrl_c:
        with pytest.raises(KeyboardInterrupt) as caught:
            press_ctrl_c()
        assert ctrl_c.raised(caught.value)
        with pytest.raises(KeyboardInterrupt) as stopped:
            stop()
        assert not ctrl_c.raised(stopped.value)
    assert not ctrl_c.raised(caught.value)  # it is forgotten


def test_contexts_may_be_nested():
    with CtrlC() as outer:
        with pytest.raises(KeyboardInterrupt) as caught, CtrlC() as inner:
            press_ctrl_c()
        assert outer.raised(caught.value) and not inner.raised(caught.value)


def test_a_handler_that_is_set_meanwhile_stays():
    before = signal.getsignal(signal.SIGINT)

    def other(number, frame):
        """Does nothing."""

    try:
        with CtrlC():
            signal.signal(signal.SIGINT, other)
        assert signal.getsignal(signal.SIGINT) is other
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_handler_in_python_nothing_changes():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC() as ctrl_c:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert not ctrl_c.raised(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGINT, before)
