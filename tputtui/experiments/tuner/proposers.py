"""The searches by name: by predictions, by a model, at random, or in order. Pure."""

from __future__ import annotations

import importlib
import importlib.util
import random
import threading
from typing import TYPE_CHECKING, Any

from tputtui.errors import UsageError, nearest
from tputtui.experiments.tuner.physics import Physics
from tputtui.experiments.tuner.search import Proposer, Search
from tputtui.experiments.tuner.space import Point, Space

if TYPE_CHECKING:
    import optuna

__all__ = ["SEARCHES", "check_search", "search_of"]

SEARCHES = {
    "physics": "what steps cost predicts, measuring judges (the usual one)",
    "model": "a model of what was seen proposes, trials race",
    "random": "in any order, each measured whole: the baseline",
    "grid": "every setting in order, each measured whole",
}
"""Each search by name, and what it does."""
_STARTING = 6
"""Random points before the model proposes any."""
_REPEATS = 12


def search_of(name: str, space: Space, seed: int) -> Search:
    """A search by its name. Raises UsageError."""
    match name:
        case "physics":
            physics = Physics(space, lambda: _otherwise(space, seed))
            return Search(space, physics, racing=True, judge=physics)
        case "model":
            return Search(space, _Model(space, seed), racing=True)
        case "random":
            return Search(space, _Listed(_shuffled(space, seed)), racing=False)
        case "grid":
            return Search(space, _Listed(list(space)), racing=False)
    raise _unknown(name)


def _otherwise(space: Space, seed: int) -> Proposer:
    """The proposer that goes on where predictions fail."""
    if importlib.util.find_spec("optuna") is None:
        return _Listed(_shuffled(space, seed))
    return _Model(space, seed)


def check_search(name: str) -> None:
    """Raise UsageError where there is no search of that name."""
    if name not in SEARCHES:
        raise _unknown(name)


def _unknown(name: str) -> UsageError:
    hint = nearest(name, SEARCHES) or f"There are: {', '.join(SEARCHES)}."
    return UsageError(f"There is no search called {name!r}.", hint)


def _shuffled(space: Space, seed: int) -> list[Point]:
    points = list(space)
    random.Random(seed).shuffle(points)
    return points


class _Listed:
    """Proposes points in the order of a list."""

    def __init__(self, points: list[Point]) -> None:
        self._left = dict.fromkeys(points)

    def __contains__(self, point: Point) -> bool:
        return point in self._left

    def propose(self, best: Point) -> Point | None:
        point = next(iter(self._left), None)
        self._left.pop(point, None)  # type: ignore[arg-type]
        return point

    def learn(self, point: Point, value: float, miss: float) -> None:
        self._left.pop(point, None)


class _Model:
    """Optuna's multivariate tree-structured Parzen estimator, with the goals as constraints.

    Bergstra et al., NIPS 2011; Falkner et al. (BOHB), ICML 2018; constraints: Watanabe & Hutter,
    "c-TPE", IJCAI 2023. Every second proposal is a neighbour of the best point. Repeated points are
    skipped; where the estimator proposes hardly any others, a remaining point is drawn at random.
    """

    def __init__(self, space: Space, seed: int) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UsageError(
                "This search needs Optuna.",
                "pip install 'tputtui[tune]'; or --search physics (m on the screen).",
            )
        # The import takes half a second; it runs during the first trial.
        threading.Thread(target=importlib.import_module, args=("optuna",), daemon=True).start()
        self._space = space
        self._seed = seed
        self._left = _Listed(_shuffled(space, seed))
        self._proposals = 0
        self._made: optuna.Study | None = None

    def propose(self, best: Point) -> Point | None:
        point = self._beside(best) if self._proposals % 2 else self._modelled()
        self._proposals += 1
        point = point or self._modelled() or self._left.propose(best)
        if point is not None:
            self._left.learn(point, 0.0, 0.0)
        return point

    def _beside(self, best: Point) -> Point | None:
        """A remaining point that differs from the best in one step of one limit; None for none."""
        for axis in range(len(best)):
            for step in (-1, 1):
                point = (*best[:axis], best[axis] + step, *best[axis + 1 :])
                if point in self._left:
                    return point
        return None

    def _modelled(self) -> Point | None:
        for _ in range(_REPEATS):
            trial = self._study().ask(self._distributions())
            point = tuple(trial.params[axis.name] for axis in self._space.axes)
            # `learn` adds every result as a trial of its own, also for points not proposed here.
            self._study().tell(trial, state=self._optuna.trial.TrialState.FAIL)
            if point in self._left:
                return point
        return None

    def learn(self, point: Point, value: float, miss: float) -> None:
        self._left.learn(point, value, miss)
        named = {axis.name: i for axis, i in zip(self._space.axes, point, strict=True)}
        seen = self._optuna.trial.create_trial(
            params=named,
            distributions=self._distributions(),
            value=value,
            constraints={"goals": miss},
        )
        self._study().add_trial(seen)

    @property
    def _optuna(self) -> Any:
        import optuna

        return optuna

    def _study(self) -> optuna.Study:
        if self._made is None:
            optuna = self._optuna
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            sampler = optuna.samplers.TPESampler(
                seed=self._seed, multivariate=True, n_startup_trials=_STARTING
            )
            self._made = optuna.create_study(direction="maximize", sampler=sampler)
        return self._made

    def _distributions(self) -> dict[str, Any]:
        whole = self._optuna.distributions.IntDistribution
        return {axis.name: whole(0, len(axis.values) - 1) for axis in self._space.axes}
