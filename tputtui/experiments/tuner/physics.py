"""The proposer that predicts: what a setting gives, by step costs, corrected by what was measured.

Pure. A forecast is right up to what its scheduler and its costs leave out. So the logarithm of
measured ÷ predicted is taken for a smooth function of the limits: a Gaussian process over their
logarithms around an unknown constant, its height by marginal likelihood (Kennedy & O'Hagan,
"Bayesian calibration of computer models", J. Royal Statistical Society B 63, 2001). A trial is
compared with the forecast of its own window and its own requests, so neither adds to its error.

What is measured next is what promises most beyond the best so far: expected improvement times the
chance that the goals are met (Gardner et al., "Bayesian optimization with inequality constraints",
ICML 2014). Where two trials in a row are off by more than 10 %, the predictions have failed, and
another proposer goes on without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tputtui.experiments.tuner.search import Proposer, Seen
from tputtui.experiments.tuner.space import Point, Space
from tputtui.measure.stats import Floats
from tputtui.predict.forecast import WINDOW_S, Forecast

__all__ = ["Physics", "Question"]

_FEWEST_TRIALS = 3
_GAIN = 0.004
"""Nothing is measured for an expected gain below this fraction of the best."""
_HOPELESS = 0.02
"""A setting with a smaller chance to meet the goals is not tried."""
_FAILED, _FAILURES = 0.10, 2
_ONE_LEVEL = 0.05
"""About the distance of two levels: a load that is predicted to miss by less may be carried."""
_CLEAR = 0.3
"""A miss beyond this, ln(latency ÷ limit), is clear: by how much matters little."""
_OCTAVES = 1.5
"""Distance, in doublings of a limit, over which deviations are alike."""
_HEIGHTS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_USUAL = {"value": 0.02, "miss": 0.04}
"""Usual height of the deviations: the scale of the prior on it."""
_CONSTANT = 0.15
"""Standard deviation of the constant."""
_LEAST_ERROR = {"value": 0.02, "miss": 0.025}
"""Least relative error of a trial."""
_OWN = 1 / 3
"""Share of a trial's own error that counts: most of it is by its requests, which are forecast."""
_ODD, _WORTH = 2.0, 0.02
"""A trial is odd so many least errors below what all others tell of its point; and measuring it
again is worth a gain of this fraction of the best."""
_NORMAL = NormalDist()


class Question(NamedTuple):
    """What is to be forecast: a point at a level, over so many seconds once warm."""

    point: Point
    level: int
    length_s: float = WINDOW_S


class _Trial(NamedTuple):
    point: Point
    level: int
    seen: Seen


class _Deviations(NamedTuple):
    """A posterior over points: mean, shape (n,), and covariance, shape (n, n)."""

    mean: Floats
    covariance: Floats


class Physics:
    """Proposes by forecasts; without any, and once they have failed, by `otherwise`.

    otherwise: makes the proposer that goes on then.
    """

    def __init__(self, space: Space, otherwise: Callable[[], Proposer]) -> None:
        self._space = space
        self._make = otherwise
        self._other: Proposer | None = None
        self._trials: list[_Trial] = []
        self._forecasts: dict[Question, Forecast] = {}
        self._points = list(space)
        self._at = {point: i for i, point in enumerate(self._points)}
        self._where = _places(space, self._points)
        self._learnt: dict[Point, tuple[float, float]] = {}
        self._failures = 0
        self.level = space.start_level
        """The level of the load that was asked about last."""
        self._posterior: dict[str, _Deviations] | None = None
        self._settled = ""

    # -- forecasts -----------------------------------------------------------------------------

    @property
    def works(self) -> bool:
        """Whether there are forecasts, and they have not failed."""
        return bool(self._forecasts) and self._failures < _FAILURES

    @property
    def failed(self) -> bool:
        """Whether the forecasts were off too often."""
        return self._failures >= _FAILURES

    def questions(self, best: tuple[Point, int] | None, now: Sequence[Question]) -> list[Question]:
        """What to forecast: every point, and each trial over its own window.

        best: the best point and level so far. now: of the trial under way.
        """
        level = self._space.start_level if best is None else best[1]
        if best is not None and self._space.capped:
            level = min(level + 1, len(self._space.levels) - 1)
        self.level = level
        asked = [Question(point, level) for point in self._points]
        asked += [_question(trial) for trial in self._trials]
        asked += now
        asked += [each._replace(length_s=WINDOW_S) for each in now]
        return list(dict.fromkeys(asked))

    def take(self, forecasts: Mapping[Question, Forecast]) -> None:
        """Take newer forecasts in place of those before."""
        self._forecasts.update(forecasts)
        self._posterior = None

    @property
    def promised(self) -> list[Forecast]:
        """What every point was forecast to give, at the level that was asked about last."""
        forecasts = (self.forecast(point, self.level) for point in self._points)
        return [each for each in forecasts if each is not None]

    def forecast(self, point: Point, level: int) -> Forecast | None:
        """The forecast of a point at a level over a whole window."""
        return self._forecasts.get(Question(point, level))

    def expected(self, point: Point, level: int) -> float:
        """What a point is expected to give, corrected by the trials so far; NaN where unknown."""
        forecast = self.forecast(point, level)
        if forecast is None or not self.works:
            return math.nan
        if len(self._space.levels) > 1 or not forecast.value > 0:
            return forecast.value
        return forecast.value * math.exp(float(self._deviations("value").mean[self._at[point]]))

    # -- what a `Search` asks ------------------------------------------------------------------

    def told(self, point: Point, level: int, seen: Seen) -> None:
        """Take in a trial, before it is learnt."""
        trial = _Trial(point, level, seen)
        if self.works:
            off = self._off(trial)
            if off is not None:
                self._failures = self._failures + 1 if abs(off) > _FAILED else 0
        self._trials.append(trial)
        self._posterior = None

    def propose(self, best: Point) -> Point | None:
        """The point that promises most; None where none promises enough."""
        self._settled = ""
        if not self.works:
            return self._others().propose(best)
        if len(self._space.levels) > 1:
            return self._for_load(best)
        left = [point for point in self._points if point not in self._learnt]
        if not left:
            return None
        promised = self._promised(left)
        point = max(left, key=promised.__getitem__)
        if promised[point] < _GAIN and len(self._learnt) >= _FEWEST_TRIALS:
            self._settled = "No other setting is predicted to be better."
            return None
        return point

    def learn(self, point: Point, value: float, miss: float) -> None:
        """Take in what a point gave."""
        self._learnt[point] = (value, miss)
        if self._other is not None:
            self._other.learn(point, value, miss)

    @property
    def settled(self) -> str:
        """Why nothing was proposed though points are left, in a sentence; empty otherwise."""
        return self._settled

    def believed(self, point: Point, level: int, pooled: Seen) -> Seen:
        """What a point gives by all that is known: forecasts and trials together."""
        forecast = self.forecast(point, level)
        if not self.works or forecast is None or len(self._space.levels) > 1:
            return pooled
        i = self._at[point]
        value, miss = self._deviations("value"), self._deviations("miss")
        believed = pooled
        if forecast.value > 0 and pooled.value > 0:
            believed = believed._replace(
                value=forecast.value * math.exp(value.mean[i]),
                error=math.sqrt(max(value.covariance[i, i], 0.0)),
            )
        if abs(forecast.miss) < _CLEAR and abs(pooled.miss) < _CLEAR:
            believed = believed._replace(miss=forecast.miss + float(miss.mean[i]))
        return believed

    def rivals(self, point: Point, best: Point) -> bool | None:
        """Whether a measured point may be better than the best; None where that is not known."""
        mine, top = self.forecast(point, 0), self.forecast(best, 0)
        if not self.works or mine is None or top is None or len(self._space.levels) > 1:
            return None
        i, j = self._at[point], self._at[best]
        values = self._deviations("value")
        if not (mine.value > 0 and top.value > 0):
            return False
        ahead = math.log(mine.value / top.value) + float(values.mean[i] - values.mean[j])
        error = _apart(values.covariance, i, j)
        return self._chance(i, mine) * _gain(ahead, error) >= _GAIN or self._unlucky(point, best)

    # -- inside --------------------------------------------------------------------------------

    def _unlucky(self, point: Point, best: Point) -> bool:
        """Whether a point's only trial is odd, and it would be clearly better than the best without
        it: a single trial next to a goal can miss it, and lose goodput by that, by chance."""
        trials = [trial.seen for trial in self._trials if trial.point == point]
        mine, top = self.forecast(point, 0), self.forecast(best, 0)
        if len(trials) != 1 or point == best or mine is None or top is None:
            return False
        seen, i, j = trials[0], self._at[point], self._at[best]
        if not (seen.may_hold and seen.value > 0):
            return False
        value, miss = (self._fitted(name, without=point) for name in ("value", "miss"))
        believed = math.log(mine.value) + float(value.mean[i])
        missed = mine.miss + float(miss.mean[i])
        odd = (math.log(seen.value) - believed) / _LEAST_ERROR["value"] < -_ODD or (
            not seen.holds and (seen.miss - missed) / _LEAST_ERROR["miss"] > _ODD
        )
        ahead = believed - math.log(top.value) - float(value.mean[j])
        return odd and missed <= 0 and ahead >= _WORTH

    def _others(self) -> Proposer:
        if self._other is None:
            self._other = self._make()
            for point, (value, miss) in self._learnt.items():
                self._other.learn(point, value, miss)
        return self._other

    def _promised(self, left: list[Point]) -> dict[Point, float]:
        """What measuring each of `left` gains on average, as a fraction of the best."""
        value, miss = self._deviations("value"), self._deviations("miss")
        at = [self._at[point] for point in self._learnt if self.forecast(point, 0)]
        tops = [
            (math.log(f.value) + float(value.mean[i]), i)
            for i in at
            if (f := self.forecast(self._points[i], 0)) is not None
            and f.value > 0
            and f.miss + float(miss.mean[i]) <= 0
        ]
        gains = {}
        for point in left:
            forecast, i = self.forecast(point, 0), self._at[point]
            if forecast is None:
                gains[point] = 0.0
                continue
            chance = self._chance(i, forecast)
            if not tops:
                # Nothing holds yet: what most likely does, and gives most of it.
                gains[point] = chance * max(forecast.value, forecast.requests_per_s, 1e-9)
                if chance < _HOPELESS:
                    gains[point] = min(_GAIN / 2, 1e-4 * math.exp(-max(forecast.miss, 0.0)))
                continue
            rate = forecast.value if forecast.value > 0 else 1e-9
            top, j = max(tops)
            ahead = math.log(rate) + float(value.mean[i]) - top
            error = _apart(value.covariance, i, j)
            gains[point] = chance * _gain(ahead, error)
        return gains

    def _chance(self, i: int, forecast: Forecast) -> float:
        """The chance that point `i` meets the goals."""
        miss = self._deviations("miss")
        error = math.sqrt(max(float(miss.covariance[i, i]), 0.0) + _LEAST_ERROR["miss"] ** 2)
        return _NORMAL.cdf(-(forecast.miss + float(miss.mean[i])) / error)

    def _for_load(self, best: Point) -> Point | None:
        """The point that most likely carries more than the best."""
        promised = {}
        for question, forecast in self._forecasts.items():
            point = question.point
            if point not in self._learnt and question.length_s == WINDOW_S:
                # The newest question is asked at the highest level.
                promised[point] = forecast
        if not promised:
            return None
        capped = self._space.capped

        def rank(point: Point) -> tuple[bool, float]:
            forecast = promised[point]
            holds = forecast.miss <= _ONE_LEVEL
            return holds, -forecast.miss if capped or not holds else forecast.value

        point = max(promised, key=rank)
        if len(self._learnt) >= _FEWEST_TRIALS and promised[point].miss > _ONE_LEVEL:
            self._settled = "No other setting is predicted to carry more."
            return None
        return point

    def _off(self, trial: _Trial) -> float | None:
        """By how much a trial is off what was believed before; None where nothing was."""
        forecast = self._forecasts.get(_question(trial)) or self.forecast(trial.point, trial.level)
        if forecast is None:
            return None
        name, deviation = _compared(trial.seen, forecast)
        if deviation is None:
            return None
        if len(self._space.levels) > 1 or not self._learnt:
            return 0.0
        off = deviation - float(self._deviations(name).mean[self._at[trial.point]])
        # Chance may explain a part.
        return math.copysign(max(0.0, abs(off) - 2 * forecast.error), off)

    def _deviations(self, name: str) -> _Deviations:
        if self._posterior is None:
            self._posterior = {each: self._fitted(each) for each in _USUAL}
        return self._posterior[name]

    def _fitted(self, name: str, without: Point | None = None) -> _Deviations:
        """The posterior of the deviations of values or misses. without: a point left out."""
        at, deviations, errors = [], [], []
        for trial in self._trials:
            if trial.point == without:
                continue
            forecast = self._forecasts.get(_question(trial))
            forecast = forecast or self.forecast(trial.point, trial.level)
            deviation = None
            if forecast is not None and name == "value":
                deviation = _of_value(trial.seen, forecast)
            elif forecast is not None:
                deviation = _of_miss(trial.seen, forecast)
            if deviation is not None:
                at.append(self._at[trial.point])
                deviations.append(deviation)
                assert forecast is not None
                chance = max(forecast.error, _LEAST_ERROR[name])
                errors.append(math.hypot(chance, _OWN * trial.seen.error))
        return _posterior(self._where, at, np.array(deviations), np.array(errors), _USUAL[name])


def _question(trial: _Trial) -> Question:
    return Question(trial.point, trial.level, float(round(trial.seen.length_s)))


def _of_value(seen: Seen, forecast: Forecast) -> float | None:
    """ln(measured ÷ predicted) where goodput is no matter of the goals' misses; else None."""
    if not (seen.value > 0 and forecast.value > 0) or max(seen.miss, forecast.miss) > _CLEAR / 3:
        return None
    return math.log(seen.value / forecast.value)


def _of_miss(seen: Seen, forecast: Forecast) -> float | None:
    """Measured - predicted miss; None where there are no goals, or both are clear alike."""
    if max(abs(seen.miss), abs(forecast.miss)) >= 5 or (
        seen.miss * forecast.miss > 0 and min(abs(seen.miss), abs(forecast.miss)) > _CLEAR
    ):
        return None
    return seen.miss - forecast.miss


def _compared(seen: Seen, forecast: Forecast) -> tuple[str, float | None]:
    """What tells most of how good a forecast was, and its deviation."""
    deviation = _of_value(seen, forecast)
    return ("value", deviation) if deviation is not None else ("miss", _of_miss(seen, forecast))


def _gain(ahead: float, error: float) -> float:
    """Expected improvement: the mean of the part above 0 of a normal deviate."""
    z = ahead / error
    return ahead * _NORMAL.cdf(z) + error * _NORMAL.pdf(z)


def _apart(covariance: Floats, i: int, j: int) -> float:
    """The standard error of a difference."""
    both = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    return math.sqrt(max(float(both), 1e-12))


def _places(space: Space, points: list[Point]) -> Floats:
    """The limits of each point in doublings, shape (n, axes)."""
    columns = [
        [math.log2(value) if value > 0 else 0.0 for value in axis.values] for axis in space.axes
    ]
    return np.array([[column[i] for column, i in zip(columns, p, strict=True)] for p in points])


def _posterior(
    where: Floats, at: list[int], values: Floats, errors: Floats, usual: float
) -> _Deviations:
    """A Gaussian process given `values` at points `at`, its height by marginal likelihood."""
    apart = ((where[:, None, :] - where[None, :, :]) ** 2).sum(axis=2)
    alike = np.exp(-apart / (2 * _OCTAVES**2))
    if not at:
        return _Deviations(np.zeros(len(where)), usual**2 * alike)
    best, found = -math.inf, _Deviations(np.zeros(len(where)), alike)
    for height in _HEIGHTS:
        local = height**2 * alike
        seen = local[np.ix_(at, at)] + _CONSTANT**2 + np.diag(errors**2)
        factor = np.linalg.cholesky(seen)
        white = np.linalg.solve(factor, values)
        likely = -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())
        # Half-normal in the logarithm: a factor of three more or less is one standard deviation.
        likely -= 0.5 * (math.log(height / usual) / math.log(3.0)) ** 2
        if likely > best:
            cross = local[:, at] + _CONSTANT**2
            weights = np.linalg.solve(seen, cross.T)
            mean = weights.T @ values
            # The constant is left in: it cancels in differences, which are all that matters.
            covariance = local + _CONSTANT**2 - cross @ weights
            best, found = likely, _Deviations(mean, covariance)
    return found
