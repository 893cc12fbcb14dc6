"""Deep ensembles: several networks, trained from different initial weights."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from skuq._engine._draws import Draws
from skuq._training._problem import Problem
from skuq._utils._sklearn_compat import Interval
from skuq.posteriors._adversarial import adversarial_hooks
from skuq.posteriors._base import Posterior
from skuq.posteriors._members import stacked_members

__all__ = ["DeepEnsemble"]


class DeepEnsemble(Posterior):
    """Several networks of one kind, each with its own initial weights and shuffling [1]_.

    Every parameter and buffer is stacked. Member k depends only on `random_state` and k: with
    more members, the first ones stay the same.

    Parameters
    ----------
    n_members : int, default=5
        Number of networks, the number of draws.
    bootstrap : bool, default=False
        Whether each member is trained on rows drawn with replacement instead of all rows.
    n_jobs : int, default=None
        Number of members that train at the same time, as joblib tasks, each with one torch thread.
        Any integer gives the same networks under every joblib backend. None trains members together
        in this process, with all threads of torch.
    adversarial : float ≥ 0, default=0.0
        Adversarial training as in [1]_: the loss of a batch also counts at x + ε r sign(∇ₓ loss),
        where ε is this number and r the range of each feature in the training rows; the sum stays
        in that range. The reference has 0.01, and 0 turns it off. A stack takes five times as long.

    Raises
    ------
    ValueError
        In `fit`, if members differ in more than parameters and buffers.

    Notes
    -----
    **Early stopping** sets other rows apart for each member, so that the members together learn
    from all rows. With a likelihood that learns one noise level for all rows, which needs rows that
    no member has seen, all members have the same.

    **Several devices** (``device=["cuda:0", "cuda:1"]``). Member i trains on device i modulo the
    number of devices. With ``n_jobs=None``, each device has a thread in which its members train one
    after another. For the same kind of device and number of threads, the networks are bit-identical
    to those of one device with any integer `n_jobs`. With an integer `n_jobs`, that many members
    train at a time: give at least the number of devices. As with `n_jobs`, bars and callbacks of
    scikit-learn see networks, not epochs. Ctrl-C stops the devices at the end of an epoch.

    **Stacks.** With one device and ``n_jobs=None``, up to 16 members train as one module with
    stacked parameters. Each has its own shuffling, dropout noise, early stopping and best weights,
    and equals a network trained by itself up to rounding. Conditions are:

    * an optimizer that treats every element by itself (SGD, Adam, AdamW, RMSprop, Adagrad,
      Adadelta, NAdam, RAdam, Adamax, ASGD, Rprop);
    * no skorch callbacks or table, no DataLoader, no ``compile``;
    * no convolutions on a CPU, where a stack of them is slower;
    * a stack with the same outputs and gradients as the members on a few rows. Linear layers,
      convolutions, batch and layer normalisation, pooling and elementwise functions work directly;
      a module with other layers or operations runs under vmap, if it has no dropout.

    Otherwise members train one after another. The decision never depends on timing.

    Rounding can become large in one case. A bias just before a batch normalisation has no effect on
    the loss, so its gradient is only rounding, which Adam turns into steps. In float32, such
    networks differ by 10⁻³ in probabilities; leave out the bias.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive
       Uncertainty Estimation using Deep Ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import DeepEnsemble
    >>> classifier = TorchClassifier(posterior=DeepEnsemble(n_members=10))
    """

    quick: ClassVar[dict[str, Any]] = {"n_members": 2}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "n_jobs": [Integral, None],
        "adversarial": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_members: int = 5,
        bootstrap: bool = False,
        n_jobs: int | None = None,
        adversarial: float = 0.0,
    ) -> None:
        self.n_members = n_members
        self.bootstrap = bootstrap
        self.n_jobs = n_jobs
        self.adversarial = adversarial

    def fit(self, problem: Problem) -> Draws:
        hooks = None
        if self.adversarial:
            hooks = adversarial_hooks(problem, self.adversarial, self.n_members)
        networks = problem.train(
            self.n_members,
            bootstrap=self.bootstrap,
            n_jobs=self.n_jobs,
            hooks=hooks,
            own_rows=True,
        )
        return Draws(networks[0], stacked_members(networks, problem), networks="draws")
