"""Normalising encoded texts: the statistics are fitted once on training texts, saved, and applied to any text.

Mean-pooled vectors of profile texts are nearly collinear; a router sees the country in them only after whitening.

Shapes: N texts, C width of the encoder's vectors, K width after normalising.
"""

import dataclasses

import numpy as np

MAX_CONDITION = 1e-4
"""Directions with less than this share of the largest standard deviation are left out (zero columns)."""
FLOAT_NOISE = 1e-5
"""So are those below this share of the vectors' own length: they hold float32 rounding, not meaning."""


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """`(x - mean) @ projection`, then division by the length if `l2`."""

    mean_C: np.ndarray  # float64; empty: nothing is subtracted
    projection_CK: np.ndarray  # float64; empty: no product
    diagonal: bool = False  # `projection_CK` is one column [C, 1], which scales each coordinate instead
    l2: bool = False

    def width(self, encoder_width: int) -> int:
        """K, for an encoder of width C."""
        whitened = self.projection_CK.size > 0 and not self.diagonal
        return self.projection_CK.shape[1] if whitened else encoder_width

    def __call__(self, vectors_NC: np.ndarray) -> np.ndarray:
        """Normalises float32 [N, C] to float32 [N, K]."""
        x_NC = vectors_NC.astype(np.float64)
        if self.mean_C.size:
            x_NC = x_NC - self.mean_C[None]
        if self.projection_CK.size:
            x_NC = x_NC * self.projection_CK[:, 0][None] if self.diagonal else x_NC @ self.projection_CK
        if self.l2:
            x_NC = x_NC / np.maximum(np.linalg.norm(x_NC, axis=1, keepdims=True), 1e-12)
        return x_NC.astype(np.float32)


def fit_normaliser(vectors_NC: np.ndarray, kind: str, components: int) -> Normaliser:
    """Fits a normaliser on the training vectors.

    `whiten` is PCA: centre, rotate to the principal axes, keep the leading ones, scale each to unit (population)
    variance over the N vectors. Axes that hold no more than rounding become zero columns, so the width depends only
    on `components` and C: fewer distinct vectors than components, or none at all, is no special case.
    `kind` is one of `ProfileConfig.normalise`, `components` K for `whiten` (at most C); each distinct text stands in
    `vectors_NC` once.
    """
    nothing = np.zeros(0), np.zeros((0, 0))
    if kind in ("none", "l2"):
        return Normaliser(*nothing, l2=kind == "l2")
    width = vectors_NC.shape[1]
    components = min(components, width)
    if len(vectors_NC) == 0:
        columns = components if kind == "whiten" else 1
        return Normaliser(np.zeros(width), np.zeros((width, columns)), kind != "whiten")
    x_NC = vectors_NC.astype(np.float64)
    mean_C = x_NC.mean(0)
    noise = FLOAT_NOISE * np.sqrt(np.square(x_NC).sum(1).mean())
    x_NC -= mean_C[None]
    if kind == "standardise":
        std_C = x_NC.std(0)
        # Per coordinate the rounding is that of one number, not of the whole vector.
        scale_C = _inverse(std_C, np.maximum(MAX_CONDITION * std_C.max(), noise / np.sqrt(width)))
        return Normaliser(mean_C, scale_C[:, None], diagonal=True)
    axes_CK, std_K = _principal_axes(x_NC)
    projection_CK = np.zeros((width, components))
    kept = min(components, len(std_K))
    inverse_K = _inverse(std_K[:kept], max(MAX_CONDITION * std_K[0], noise))
    projection_CK[:, :kept] = axes_CK[:, :kept] * inverse_K[None]
    return Normaliser(mean_C, projection_CK)


def _principal_axes(x_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes of centred float64 vectors by falling standard deviation [C, K], and the deviations [K]; K = min(N, C)."""
    count, width = x_NC.shape
    if count <= width:
        _, singular_K, axes_KC = np.linalg.svd(x_NC, full_matrices=False)
        axes_CK, std_K = axes_KC.T, singular_K / np.sqrt(count)
    else:
        variance_C, axes_CC = np.linalg.eigh(x_NC.T @ x_NC / count)
        axes_CK, std_K = axes_CC[:, ::-1], np.sqrt(np.maximum(variance_C[::-1], 0.0))
    # An axis has no sign of its own; fix it, so that the same texts give the same table on any machine.
    largest_K = np.abs(axes_CK).argmax(0)
    return axes_CK * np.sign(axes_CK[largest_K, np.arange(axes_CK.shape[1])])[None], std_K


def _inverse(std: np.ndarray, floor: float) -> np.ndarray:
    return np.where(std > floor, 1.0 / np.maximum(std, 1e-30), 0.0)
