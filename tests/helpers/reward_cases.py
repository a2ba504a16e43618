"""Rewards that a user could write, for tests: named in `reward.function`."""


def nan(samples):
    """No reward at all."""
    return [float("nan")] * len(samples)


def parity(samples):
    """Women prefer replies that begin with an even token, men those that begin with an odd one."""
    return [float(s.tokens[0] % 2 != ("female" in s.profile)) for s in samples]


def token(samples):
    """Something about what was sampled, so that a run depends on it."""
    return [float(sum(s.tokens) % 7) for s in samples]
