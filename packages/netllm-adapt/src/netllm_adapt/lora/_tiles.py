"""How each Triton kernel is cut into tiles, per GPU architecture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """Sides of a tile, and the compiler's options; a kernel reads the sides that it has."""

    bm: int
    bn: int
    bk: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiles:
    """The tiles of every kernel."""

    shrink: Tile
    gemm: Tile
    gemm_drops: Tile
    """With the low-rank product as prologue, whose tiles take shared memory beside the loop's; and
    for ranks whose rows are read number by number, or of several adapters above 64, at the cost of
    registers."""
    grads_of_small: Tile
    """Tall, since each of its programs writes a part of dB; for ranks up to 32."""
    grad_a: Tile

    def gemm_for(self, rank: int, *, drops: bool, mixes: bool = False) -> Tile:
        """The tile of the main product, without spills for any rank."""
        small = drops or (mixes and rank > 64) or (rank > 16 and rank % 16)
        return self.gemm_drops if small else self.gemm


# KERNELS.md's starting points; only the compile test has seen them, no timing on a GPU yet.
_SM_90 = Tiles(
    shrink=Tile(32, 0, 64, 4, 4),
    gemm=Tile(128, 256, 64, 8, 3),
    gemm_drops=Tile(64, 128, 64, 8, 3),
    grads_of_small=Tile(512, 64, 0, 8, 2),
    grad_a=Tile(64, 0, 64, 8, 4),
)
_SM_80 = Tiles(
    shrink=Tile(32, 0, 64, 8, 4),
    gemm=Tile(128, 128, 32, 4, 4),
    gemm_drops=Tile(128, 128, 32, 8, 3),
    grads_of_small=Tile(256, 64, 0, 8, 2),
    grad_a=Tile(64, 0, 64, 4, 3),
)
# Fit the 99 KiB of shared memory that every GPU with bfloat16 gives a block.
_SAFE = Tiles(
    shrink=Tile(32, 0, 32, 4, 2),
    gemm=Tile(64, 64, 32, 4, 2),
    gemm_drops=Tile(64, 64, 32, 4, 2),
    grads_of_small=Tile(128, 32, 0, 4, 2),
    grad_a=Tile(32, 0, 32, 4, 2),
)
_TABLE = {80: _SM_80, 90: _SM_90}


def tiles_for(arch: int) -> Tiles:
    """The tiles for a compute capability, 90 for 9.0; small ones for a GPU that nobody tuned."""
    return _TABLE.get(arch, _SAFE)
