"""What a reply is worth: small classes with one method, `score`.

A function of your own (`reward.function`) takes a list of `Sample` and returns a number for each.
"""

from cuma_jax.rewards.sample import Reward as Reward
from cuma_jax.rewards.sample import Sample as Sample
from cuma_jax.rewards.sample import Scores as Scores
