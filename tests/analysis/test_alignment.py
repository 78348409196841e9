import numpy as np
import pytest

from feedback_lib.analysis import alignment

DAYS = 56
HOURS = DAYS * 24.0


def drifting(dice, keep, n=DAYS):
    """A series that keeps so much of the day before; 1 is a random walk."""
    made = np.zeros(n)
    for day in range(1, n):
        made[day] = keep * made[day - 1] + dice.normal()
    return made


class TestBestLag:
    @pytest.mark.parametrize("lag", [0, 1, 3])
    def test_finds_the_planted_lag_and_says_it_is_no_chance(self, lag):
        found = []
        for seed in range(8):
            dice = np.random.default_rng(seed)
            cause = drifting(dice, 0.5, DAYS + lag)
            said = dice.poisson(np.exp(0.8 + 0.5 * cause[: len(cause) - lag])).astype(float)
            found.append(alignment.best_lag(cause[lag:], said))
        assert {f.days for f in found} == {lag}
        assert sum(f.clear for f in found) >= 6
        assert all(f.low < f.r < f.high for f in found)

    @pytest.mark.parametrize("keep", [0.0, 0.8, 1.0])
    def test_unrelated_series_are_seldom_called_clear(self, keep):
        claims = 0
        for seed in range(20):
            dice = np.random.default_rng(seed)
            claims += alignment.best_lag(drifting(dice, keep), drifting(dice, keep)).clear
        assert claims <= 3

    def test_the_rhythm_of_the_week_is_no_line_up(self):
        week = np.tile([3.0, 3, 3, 3, 3, 0, 0], 8)
        claims = 0
        for seed in range(20):
            dice = np.random.default_rng(seed)
            claims += alignment.best_lag(week + dice.normal(size=DAYS), week + dice.normal(size=DAYS)).clear
        assert claims <= 2

    def test_one_event_in_each_lines_up_once_and_is_not_claimed(self):
        dice = np.random.default_rng(4)
        cause, said = 0.3 * dice.normal(size=DAYS), 0.3 * dice.normal(size=DAYS)
        cause[30:35] += 5
        said[31:36] += 5
        found = alignment.best_lag(cause, said)
        assert (found.days, found.clear, found.once) == (1, False, True)
        assert found.r > 0.9

    def test_a_fall_that_follows_a_rise_is_no_line_up(self):
        cause = drifting(np.random.default_rng(5), 0.5)
        assert not alignment.best_lag(cause, -cause).clear

    def test_two_straight_rises_are_no_line_up(self):
        dice = np.random.default_rng(6)
        up = np.arange(DAYS) * 1.0
        assert not alignment.best_lag(up + dice.normal(size=DAYS), up + dice.normal(size=DAYS)).clear

    def test_days_without_data_are_left_out(self):
        dice = np.random.default_rng(7)
        cause = drifting(dice, 0.5)
        said = cause + 0.2 * dice.normal(size=DAYS)
        cause[20:24] = np.nan
        found = alignment.best_lag(cause, said)
        assert (found.days, found.n, found.clear) == (0, DAYS - 4, True)

    def test_few_days_or_a_series_that_never_changes_say_nothing(self):
        dice = np.random.default_rng(8)
        assert alignment.best_lag(dice.normal(size=30), dice.normal(size=30)) is None
        assert alignment.best_lag(np.ones(DAYS), dice.normal(size=DAYS)) is None
        assert alignment.best_lag(np.full(DAYS, np.nan), dice.normal(size=DAYS)) is None
        with pytest.raises(ValueError, match="30 days and 29"):
            alignment.best_lag(np.ones(30), np.ones(29))

    def test_the_answer_does_not_depend_on_units(self):
        dice = np.random.default_rng(9)
        cause, said = drifting(dice, 0.5), drifting(dice, 0.5)
        assert alignment.best_lag(cause, said).p == alignment.best_lag(1000 * cause + 7, said / 60).p


class TestFollows:
    """Complaints of one week against the moment at which a service got worse in that week."""

    @staticmethod
    def said(dice, begins, count=12):
        usual = dice.uniform(0, HOURS, dice.poisson(5))
        burst = begins + np.cumsum(dice.exponential(4.0, count))
        return [*usual, *burst[burst < HOURS]]

    def test_complaints_that_begin_soon_after_are_found(self):
        found = []
        for seed in range(40):
            dice = np.random.default_rng(seed)
            moment = HOURS - dice.uniform(72, 160)
            found.append(alignment.follows(moment, self.said(dice, moment), 0.0, HOURS))
        assert sum(f.clear for f in found) >= 28
        assert all(f.low > 1 for f in found if f.clear)
        assert np.median([f.first for f in found]) < 6

    def test_complaints_of_the_same_week_that_begin_at_any_hour_are_seldom_said_to_follow(self):
        claims = 0
        for seed in range(80):
            dice = np.random.default_rng(seed)
            said = self.said(dice, HOURS - dice.uniform(24, 168))
            claims += alignment.follows(HOURS - dice.uniform(1, 168), said, 0.0, HOURS).clear
        assert claims <= 8

    def test_fewer_than_three_people_or_nobody_is_no_claim(self):
        assert not alignment.follows(1200.0, [1200.5, 1201.0], 0.0, HOURS).clear
        nobody = alignment.follows(1200.0, [], 0.0, HOURS)
        assert (nobody.first, nobody.people, nobody.p, nobody.clear) == (None, 0, 1.0, False)
        assert alignment.follows(0.0, [1.0, 2.0, 3.0], 0.0, HOURS).ratio is None


def test_a_measurement_turns_where_its_level_changes_whatever_one_peak_says():
    dice = np.random.default_rng(2)
    level = 200 + 10 * dice.normal(size=60)
    level[40:] += 300
    level[10] += 5_000
    assert alignment.turn(level) == 40
    assert alignment.turn(np.arange(9.0)[::-1].copy()) is None
    assert alignment.turn(np.ones(9)) is None


class TestRises:
    def test_more_after_a_deploy_is_found_with_the_hour(self):
        dice = np.random.default_rng(1)
        said = [*dice.uniform(0, HOURS, 100), *dice.uniform(35 * 24 + 5, 35 * 24 + 60, 25)]
        quiet, loud = alignment.rises([(20 * 24.0, "1.0"), (35 * 24.0, "1.1")], said, 0, HOURS)
        assert quiet.sure_after is None
        assert loud.version == "1.1"
        assert 5 < loud.sure_after < 48
        assert loud.low > 1.5

    def test_unchanged_talk_is_seldom_called_a_rise(self):
        claims = 0
        for seed in range(200):
            dice = np.random.default_rng(seed)
            said = dice.uniform(0, HOURS, dice.poisson(112))
            claims += alignment.rises([(35 * 24.0, "a")], said, 0, HOURS)[0].sure_after is not None
        assert claims <= 6

    def test_the_time_after_ends_with_the_next_deploy_or_the_data(self):
        made = alignment.rises([(100.0, "a"), (124.0, "b"), (HOURS - 10, "c"), (HOURS + 5, "d")], [110.0], 0, HOURS)
        assert [(r.version, r.hours) for r in made] == [("a", 24.0), ("b", 72.0), ("c", 10.0)]

    def test_nobody_before_has_no_ratio(self):
        (made,) = alignment.rises([(500.0, "a")], [510.0, 511.0, 512.0, 513.0], 0, HOURS)
        assert made.ratio is None
        assert made.people == 4
        assert made.sure_after is not None

    def test_what_was_said_before_the_data_begins_is_not_asked(self):
        assert alignment.rises([(0.0, "a"), (-5.0, "b")], [3.0], 0, HOURS) == []
