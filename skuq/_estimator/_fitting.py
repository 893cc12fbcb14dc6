"""One call of `fit`, from checked data to the attributes of the fitted estimator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from skuq._data._checks import row_hashes, rows_on_device
from skuq._data._places import flat_places
from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._estimator._built import Built, default_module
from skuq._estimator._chosen import Chosen
from skuq._estimator._contracts import check_loss, checked_draws
from skuq._estimator._noise import Finish, Split
from skuq._estimator._reading import TrainingData
from skuq._estimator._signals import losses_with_zeros, warn_if_not_converged
from skuq._networks._module import Numerics
from skuq._training._building import Builder
from skuq._training._checkpoints import Checkpoints
from skuq._training._companion import Companion
from skuq._training._identity import run_identity
from skuq._training._own_rows import OwnRows, Splits
from skuq._training._problem import Problem
from skuq._training._schedule import Schedule
from skuq._training._settings import Trained
from skuq._training._trainer import Trainer
from skuq._utils._progress import Task
from skuq._utils._random import Purpose, derive_seed
from skuq.likelihoods import Likelihood
from skuq.posteriors import PointEstimate, Posterior

__all__ = ["Fitting"]

_KEPT_EPOCHS = 100  # epochs that the history keeps, for any number of calls of partial_fit


class Fitting:
    """One call of `fit` or `partial_fit`.

    Parameters
    ----------
    estimator : TorchEstimator
        The estimator; it changes only once, when everything is fitted.
    posterior : Posterior
        The posterior to fit.
    likelihood : Likelihood
        The likelihood, not yet fitted.
    data : TrainingData
        The checked rows.
    devices : list of torch.device
        The devices of training; the first also evaluates predictions.
    goes_on : bool
        Whether training goes on from fitted networks.
    incremental : bool
        Whether this is `partial_fit`.
    root : int
        The seed of `fit`.
    companion : Companion, default=None
        Changes the training of every network, for an estimator around this one.
    """

    def __init__(
        self,
        estimator: Any,
        posterior: Posterior,
        likelihood: Likelihood,
        data: TrainingData,
        devices: list[torch.device],
        goes_on: bool,
        incremental: bool,
        root: int,
        companion: Companion | None = None,
    ) -> None:
        self._estimator = estimator
        self._posterior = posterior
        self._data = data
        self._devices = devices
        self._numerics = Numerics(devices[0], estimator.precision)
        self._incremental = incremental
        self._root = root
        self._companion = companion
        self._built = Built.by(estimator)
        if goes_on and hasattr(estimator, "_built"):  # further members are like the first ones
            self._built = self._built._replace(filled=estimator._built.filled)
        self._chosen = Chosen.of(estimator, data.target, data.groups, data.valid is not None)
        if incremental:
            self._chosen = self._chosen._replace(max_epochs=1, patience=None)
        self._before: Engine | None = estimator._engine if goes_on else None
        self._start = self._networks() if goes_on else []
        self._likelihood = likelihood
        if goes_on and incremental:  # a warm start learns the units of y anew
            self._likelihood = copy.deepcopy(estimator.likelihood_)
        if goes_on and repr(likelihood) != repr(estimator.likelihood_):
            raise ValueError(
                f"training goes on with likelihood={estimator.likelihood_}, got {likelihood}; set "
                "warm_start=False and call fit to begin anew"
            )

    def run(self, task: Task) -> None:
        """Train, fit the posterior, and only then change the estimator."""
        checkpoints = self._begun_checkpoints()
        with checkpoints or nullcontext():
            apart = self._stopping_rows()
            encoded = self._encoded_targets(checkpoints, apart)
            apart = self._rows_for_noise(encoded, checkpoints, apart)
            keeps = self._estimator.on_interrupt == "keep"
            problem, schedule = self._problem(
                encoded, task, apart, checkpoints=checkpoints, keeps_interrupted=keeps
            )
            with task:
                draws = self._fit_posterior(self._posterior, problem)
                attributes = self._attributes(draws, schedule.trained, schedule)
                self._estimator.__dict__.update(attributes)
                task.end(lambda: attributes)
            if checkpoints and schedule.interrupted:
                checkpoints.stay()
            self._warn_if_not_converged(schedule)

    def _warn_if_not_converged(self, schedule: Schedule) -> None:
        trainer = schedule.trainer
        if self._incremental or schedule.interrupted or not self._chosen.max_epochs:
            return
        first, likelihood = schedule.trained[0].module, self._likelihood
        n_rows = trainer.settings.n_batch_rows
        histories = [network.history for network in schedule.trained]
        epochs, patience, lr = self._chosen
        watched = patience is not None  # the network then has the weights of another epoch
        last = math.inf if watched else histories[0][-1].get("train_loss", math.inf)
        losses = losses_with_zeros(
            first, trainer.train_rows, likelihood, trainer.numerics, n_rows, last, self._data.places
        )
        warn_if_not_converged(histories, epochs, losses, lr, watched)

    # -- before training -------------------------------------------------------------------------

    def _networks(self) -> list[Trained]:
        """List the networks from which training goes on; `partial_fit` also keeps optimizers."""
        estimator = self._estimator
        networks = estimator._engine.draws.networks(len(estimator.histories_))
        if not self._incremental:
            return [Trained(network, [], {}) for network in networks]
        states = estimator._states or [{} for _ in networks]
        # Only callbacks may read early epochs of the history.
        first = 0 if estimator.callbacks else 1 - _KEPT_EPOCHS
        histories = [history[first:] for history in estimator.histories_]
        return [Trained(*parts) for parts in zip(networks, histories, states)]

    def _begun_checkpoints(self) -> Checkpoints | None:
        """Begin new checkpoints, or go on from the checkpoints of a killed fit, with its seed."""
        estimator = self._estimator
        if estimator.checkpoint_dir is None or self._incremental:
            return None
        checkpoints = Checkpoints(estimator.checkpoint_dir, estimator.checkpoint_minutes)
        X, target, weight, groups, *_ = self._data
        arrays = {"X": X, "y": target, "sample_weight": weight, "groups": groups}
        if self._companion is not None:
            arrays |= self._companion.identity()
        if (valid := self._data.valid) is not None:
            rows = valid.X[: len(valid.X)]  # of a stream, all rows
            arrays |= {"X_val": rows, "y_val": valid.target, "sample_weight_val": valid.weight}
        identity = run_identity(estimator, self._devices, self._start, self._root, arrays)
        self._root = checkpoints.begin(identity, self._root)
        return checkpoints

    def _encoded_targets(self, checkpoints: Checkpoints | None, apart: Split | None) -> np.ndarray:
        """Encode targets; some likelihoods need a first training for that."""
        likelihood, data, engine = self._likelihood, self._data, self._before
        if engine is None or not self._incremental:
            seed = derive_seed(self._root, Purpose.LIKELIHOOD)
            n_classes = self._estimator._n_classes
            target = flat_places(data.target, data.places)
            weight = None if data.weight is None else flat_places(data.weight, data.places)
            likelihood.fit(target, weight, n_classes=n_classes, seed=seed)
        corrects = getattr(self._estimator, "prior_correction", False)
        likelihood.correct_prior(likelihood.weights_of_classes(data.by_class) if corrects else None)
        encoded = likelihood.encode(data.target)
        check_loss(likelihood, flat_places(encoded, data.places), self._numerics)
        if data.valid is not None:
            self._watched = likelihood.encode(data.valid.target)
        if not likelihood.retrains(encoded) or (engine is None and self._incremental):
            return encoded
        if engine is None:
            stage = checkpoints and checkpoints.stage("first")
            engine = self._fit_other(encoded, apart, clone(self._posterior), checkpoints=stage)
        if data.valid is not None:
            self._watched = likelihood.relabel(partial(engine.map, data.valid.X), self._watched)
        return likelihood.relabel(partial(engine.map, data.X), encoded)

    def _fit_other(
        self, encoded: np.ndarray, apart: Split | None, posterior: Posterior, **saving: Any
    ) -> Engine:
        """Fit a posterior that the estimator does not keep; callbacks do not see it."""
        problem, schedule = self._problem(encoded, Task("fit"), apart, **saving)
        draws = self._fit_posterior(posterior, problem)
        return Engine(draws, problem.sample, schedule.trainer.builder.numerics)

    def _fit_posterior(self, posterior: Posterior, problem: Problem) -> Draws:
        return checked_draws(posterior.fit(problem), posterior, problem.sample, self._numerics)

    def _stopping_rows(self) -> Split | None:
        """Choose indices of training rows, and of rows that early stopping watches."""
        given = self._data.valid is not None
        return None if given or self._chosen.patience is None else self._splits()(0)

    def _splits(self) -> Splits:
        """Make the splits of early stopping."""
        estimator, (_, target, _, groups, *_) = self._estimator, self._data
        stratify = estimator._task == "classification" and target.ndim == 1
        known = np.nan_to_num(target, nan=-1.0)  # uncertain labels are a class here
        fraction = estimator.validation_fraction
        return Splits(known, groups, fraction, stratify, self._root)

    def _rows_for_noise(
        self, encoded: np.ndarray, checkpoints: Checkpoints | None, apart: Split | None
    ) -> Split | None:
        """Choose the final split of the rows; learn the noise before the posterior if necessary."""
        X, _, weight, groups, *_ = self._data
        noise, places = self._posterior.noise, self._data.places
        unseen = None
        if (valid := self._data.valid) is not None:
            unseen = Finish(valid.X, self._watched, valid.weight, noise, places=places)
        finish = Finish(X, encoded, weight, noise, apart, places=places, unseen=unseen)
        self._finish = finish
        trains = self._chosen.max_epochs > 0 and not self._incremental
        if not trains or not finish.lacks_rows(self._likelihood):
            return apart

        def trained_on(number: int, split: Split) -> Engine:
            stage = checkpoints and checkpoints.stage(f"noise-{number}")
            before = self._posterior.noise == "before"
            posterior = PointEstimate() if before else clone(self._posterior)
            return self._fit_other(encoded, split, posterior, checkpoints=stage, verbose=0)

        seed = derive_seed(self._root, Purpose.SPLIT)
        return finish.find_rows(self._likelihood, groups, seed, trained_on)

    def _fresh_targets(self, data: Any) -> Callable[[list[Any], Any], Any] | None:
        """Return the function that encodes targets that a stream reads anew, if it does."""
        fresh, likelihood = data.fresh, self._likelihood
        if fresh is None:
            return None

        def encoded(targets: list[Any], rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
            target, weight = fresh(targets, rows)
            return likelihood.encode(target), weight

        return encoded

    # -- training --------------------------------------------------------------------------------

    def _problem(
        self,
        encoded: np.ndarray,
        task: Task,
        apart: Split | None,
        **saving: Any,
    ) -> tuple[Problem, Schedule]:
        """Make the problem that the posterior sees, and the schedule that trains its networks."""
        estimator, (X, _, weight, *_) = self._estimator, self._data
        fresh, layout = self._fresh_targets(self._data), estimator._layout
        rows = rows_on_device(X, encoded, weight, self._numerics, fresh, layout)
        train, valid = (rows, None) if apart is None else map(rows.take, apart)
        stops, given = self._chosen.patience is not None, self._data.valid
        if given is not None:
            fresh, watched = self._fresh_targets(given), self._watched
            valid = rows_on_device(given.X, watched, given.weight, self._numerics, fresh, layout)
        differ = stops and given is None and not self._likelihood.wants_unseen_rows
        settings = estimator._settings(self._numerics, self._devices, self._chosen)
        settings = replace(settings, **saving)
        builder = Builder(
            factory=estimator.module or default_module(estimator),
            parameters=self._built.arguments,
            transform=self._posterior.transform,
            likelihood=self._likelihood,
            rows=train,
            settings=settings,
            root=self._root,
            resume=self._start,
            places=self._data.places,
            layout=layout,
        )
        trainer = Trainer(
            builder=builder,
            likelihood=self._likelihood,
            train_rows=train,
            valid_rows=valid if stops or given is not None else None,
            own_rows=OwnRows(rows, self._splits()) if differ else None,
            settings=replace(settings, numerics=builder.numerics),
            attributes=lambda one: self._attributes(Draws(one.module), [one], schedule),
            root=self._root,
            keeps_optimizers=self._incremental,
        )
        schedule = Schedule(trainer, task)
        mean = 1.0 if train.weight is None else float(train.weight.mean())
        n_rows = self._data.amount * mean * len(train) / len(encoded)
        before = None if self._before is None else self._before.draws

        def learns_noise(network: nn.Module) -> bool:
            engine = Engine(Draws(network), builder.sample, builder.numerics)
            return self._finish.before(self._likelihood, engine)

        def noise_is_known() -> bool:
            return self._finish.done

        problem = Problem(schedule, n_rows, before, learns_noise, noise_is_known, self._companion)
        return problem, schedule

    # -- after training --------------------------------------------------------------------------

    def _attributes(
        self, draws: Draws, networks: list[Trained], schedule: Schedule
    ) -> dict[str, Any]:
        """Make the attributes of the estimator with these draws."""
        builder = schedule.trainer.builder
        engine = Engine(draws, builder.sample, builder.numerics)
        learnt = copy.deepcopy(self._likelihood)
        self._finish(learnt, engine)
        watched = schedule.watched
        if self._data.valid is not None and schedule.draws_are_networks:
            all_given = np.arange(len(self._data.valid.X))
            watched = lambda number: all_given  # noqa: E731
        if watched and len(networks) == len(schedule.trained) and not schedule.interrupted:
            parts = [watched(number) for number in range(len(networks))]

            def member(number: int) -> Engine:
                return Engine(Draws(networks[number].module), builder.sample, builder.numerics)

            self._finish.scale(learnt, parts, member)
        return {
            "_engine": engine,
            "_root": self._root,
            "_built": self._built,
            "_rows_seen": row_hashes(self._data.X),
            "_states": [network.state for network in networks] if self._incremental else [],
            "likelihood_": learnt,
            "posterior_": self._posterior,
            "histories_": [network.history for network in networks],
            "history_": networks[0].history,
            "n_iter_": max([n.history[-1]["epoch"] for n in networks if n.history], default=0),
            "device_": str(builder.numerics.device),
            "interrupted_": schedule.interrupted,
        }
