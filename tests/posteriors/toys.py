"""Posteriors as third parties write them: each in less than sixty lines."""

import numpy as np
import torch
from torch import nn

from skuq.likelihoods import Likelihood
from skuq.posteriors import Draws, Posterior, TrainingHook


class KnownNoise(Likelihood):
    """Normal noise of a known deviation, which nothing learns."""

    task = "regression"

    def __init__(self, sd=0.5):
        self.sd = sd

    def fit(self, y, sample_weight=None, n_classes=None, seed=0):
        self.n_outputs_ = y.shape[1]
        return self

    def explain_outputs(self):
        return "a mean for each target"

    def loss(self, output, target):
        return 0.5 * ((target - output) / self.sd).square().sum(-1)

    def predictive(self, output):
        return torch.distributions.Normal(output, self.sd, validate_args=False)


def exact_posterior(X, y, sd, prior_precisions, weight=1.0):
    """The mean and the precision of [coefficients, constant] of a linear regression."""
    design = np.column_stack([X, np.ones(len(X))])
    precision = weight * design.T @ design / sd**2 + np.diag(prior_precisions)
    return np.linalg.solve(precision, weight * design.T @ y / sd**2), precision


class Recorder(TrainingHook):
    """Keeps the weights after each epoch."""

    def __init__(self):
        self.weights = []

    def after_epoch(self, module, epoch):
        self.weights.append({n: p.detach().clone() for n, p in module.named_parameters()})


class Snapshots(Posterior):
    """Weights along a walk of SGD from the trained network."""

    def __init__(self, n_epochs=4, lr=0.01):
        self.n_epochs = n_epochs
        self.lr = lr

    def fit(self, problem):
        (network,) = problem.train()
        hook = Recorder()
        problem.explore(network, self.n_epochs, torch.optim.SGD, hook=hook, lr=self.lr)
        names = hook.weights[0] if hook.weights else {}
        return Draws(network, {n: torch.stack([w[n] for w in hook.weights]) for n in names})


class Anchor(TrainingHook):
    """Pulls the weights to where they began, shifted by noise."""

    def __init__(self, seed, strength, n_rows):
        self.anchors = {}
        self._seed = seed
        self._strength = strength
        self._n_rows = n_rows

    def penalty(self, module, batch):
        if not self.anchors:
            generator = torch.Generator().manual_seed(self._seed)
            for name, parameter in module.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                self.anchors[name] = parameter.detach().clone() + 0.1 * noise
        distances = [((p - self.anchors[n]) ** 2).sum() for n, p in module.named_parameters()]
        return self._strength / self._n_rows * sum(distances)


class Anchored(Posterior):
    """An ensemble whose members have anchors of their own (arXiv:1810.05546)."""

    def __init__(self, n_members=3, strength=50.0, n_jobs=None):
        self.n_members = n_members
        self.strength = strength
        self.n_jobs = n_jobs

    def fit(self, problem):
        seeds = [problem.seed(network=k) for k in range(self.n_members)]
        hooks = [Anchor(seed, self.strength, problem.n_rows) for seed in seeds]
        networks = problem.train(self.n_members, hooks=hooks, n_jobs=self.n_jobs)
        states = [dict(n.named_parameters()) for n in networks]
        stacked = {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}
        return Draws(networks[0], stacked, networks="draws")


class Teacher(TrainingHook):
    """A moving average of the weights, with which the network has to agree."""

    def __init__(self):
        self.average = {}

    def penalty(self, module, batch):
        if not self.average:
            return None
        output = torch.func.functional_call(module, self.average, (batch[0],))
        return (module(batch[0]) - output).square().mean()

    def after_step(self, module):
        for name, p in module.named_parameters():
            before = self.average.get(name, p.detach())
            self.average[name] = 0.9 * before + 0.1 * p.detach()


class Taught(Posterior):
    """Networks beside the average of their weights."""

    def __init__(self, n_networks=2, n_jobs=None):
        self.n_networks = n_networks
        self.n_jobs = n_jobs

    def fit(self, problem):
        hooks = [Teacher() for _ in range(self.n_networks)]
        networks = problem.train(self.n_networks, hooks=hooks, n_jobs=self.n_jobs)
        states = [dict(n.named_parameters()) for n in networks]
        own = {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}
        means = {name: torch.stack([h.average[name] for h in hooks]) for name in own}
        draws = {name: torch.cat([own[name], means[name]]) for name in own}
        return Draws(networks[0], draws, networks=own)


class Scaled(nn.Module):
    """A linear layer whose outputs have learnt scales."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(1 + 0.1 * torch.randn(layer.out_features))

    def forward(self, x):
        return self.layer(x) * self.scale


class RandomScales(Posterior):
    """Noise on scales that are inserted after the last layer."""

    def __init__(self, n_draws=5):
        self.n_draws = n_draws

    def transform(self, module):
        name = [n for n, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, Scaled(module.get_submodule(name)))
        return module

    def fit(self, problem):
        (network,) = problem.train()
        name, scale = next((n, p) for n, p in network.named_parameters() if n.endswith("scale"))
        generator = torch.Generator().manual_seed(problem.seed())
        noise = torch.randn((self.n_draws, *scale.shape), generator=generator)
        return Draws(network, {name: scale.detach() * (1 + 0.1 * noise.to(scale))})
