"""The experience pool: episodes in Parquet files, one row each."""

from netllm_adapt.episodes import Episode
from netllm_adapt.pool.reader import Pool, collections_of
from netllm_adapt.pool.writer import PoolWriter

__all__ = ["Episode", "Pool", "PoolWriter", "collections_of"]
