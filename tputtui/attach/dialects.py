"""The names that known servers give their figures. Pure tables.

vLLM   docs.vllm.ai, "Production metrics"; names seen in 0.8 to 0.33
SGLang docs.sglang.ai, "Production metrics"
TGI    huggingface.co/docs/text-generation-inference, "Metrics"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DIALECTS", "Dialect"]

Names = Mapping[str, tuple[str, ...]]
"""Our name of a figure to the server's names for it; the first name that is present counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One kind of server, with the names and labels of its figures.

    A label that stands in neither `engine` nor `rank` splits a figure into parts, which add up. A
    series in which such a label is empty or missing is already the sum of the parts.
    """

    name: str
    prefixes: tuple[str, ...]
    """How all its names begin; the tables here use the first. Exporters without colons, and those
    that prepend a word of their own (Ray), use the others."""
    gauges: Names
    counters: Names
    histograms: Names
    """Without the ending `_bucket`."""
    engine: tuple[tuple[str, ...], ...]
    """Groups of labels that identify an engine; of each group, the first label present counts."""
    rank: tuple[str, ...] = ()
    """Labels of the parts of one engine; only the series of part 0 are read."""
    parted: Mapping[str, str] = field(default_factory=dict)
    """Figures of which each part is read by itself, and the label that names it: "waiting_for" by
    "reason" becomes "waiting_for:capacity", "waiting_for:deferred", …"""
    note: str = ""
    """What a person must know to read its figures; empty if nothing."""


VLLM = Dialect(
    "vLLM",
    ("vllm:", "vllm_", "ray_vllm:", "ray_vllm_"),
    gauges={
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "kv_frac": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "waiting_for": ("vllm:num_requests_waiting_by_reason",),
        "kv_fetch": ("vllm:num_requests_kv_fetch_by_stage",),
    },
    counters={
        "generated": ("vllm:generation_tokens_total",),
        "prompt": ("vllm:prompt_tokens_total",),
        "looked_up": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "cached": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "preemptions": ("vllm:num_preemptions_total",),
        "ended": ("vllm:request_success_total",),
        "rejected": ("vllm:admission_rejections_total",),
        "external_looked_up": ("vllm:external_prefix_cache_queries_total",),
        "external_cached": ("vllm:external_prefix_cache_hits_total",),
        "tier": ("vllm:prompt_tokens_cached_by_source_total",),
        "mm_looked_up": ("vllm:mm_cache_queries_total",),
        "mm_cached": ("vllm:mm_cache_hits_total",),
        "drafts": ("vllm:spec_decode_num_drafts_total",),
        "drafted": ("vllm:spec_decode_num_draft_tokens_total",),
        "accepted": ("vllm:spec_decode_num_accepted_tokens_total",),
        "accepted_at": ("vllm:spec_decode_num_accepted_tokens_per_pos_total",),
    },
    histograms={
        "ttft": ("vllm:time_to_first_token_seconds",),
        "tpot": ("vllm:request_time_per_output_token_seconds",),
        # Until 0.11 vLLM named the gap between tokens "time per output token".
        "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e": ("vllm:e2e_request_latency_seconds",),
        "queue": ("vllm:request_queue_time_seconds",),
    },
    # In Ray one process publishes the figures of all replicas on its machine.
    engine=(("ReplicaId", "WorkerId"), ("engine",)),
    parted={
        "waiting_for": "reason",
        "kv_fetch": "stage",
        "rejected": "reason",
        "tier": "source",
        "accepted_at": "position",
    },
)
SGLANG = Dialect(
    "SGLang",
    ("sglang:", "sglang_"),
    gauges={
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "kv_frac": ("sglang:token_usage",),
    },
    counters={
        "generated": ("sglang:generation_tokens_total",),
        "prompt": ("sglang:prompt_tokens_total",),
        "cached": ("sglang:cached_tokens_total",),
        "preemptions": ("sglang:num_retracted_requests_total",),
        "ended": ("sglang:num_requests_total",),
    },
    histograms={
        "ttft": ("sglang:time_to_first_token_seconds",),
        "itl": ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "e2e": ("sglang:e2e_request_latency_seconds",),
        "queue": ("sglang:queue_time_seconds",),
    },
    engine=(("dp_rank",),),
    rank=("tp_rank", "pp_rank", "moe_ep_rank"),
)
TGI = Dialect(
    "TGI",
    ("tgi_",),
    gauges={"running": ("tgi_batch_current_size",), "waiting": ("tgi_queue_size",)},
    counters={
        "generated": ("tgi_request_generated_tokens_sum",),
        "prompt": ("tgi_request_input_length_sum",),
        "ended": ("tgi_request_success", "tgi_request_success_total"),
    },
    histograms={
        "tpot": ("tgi_request_mean_time_per_token_duration",),
        "e2e": ("tgi_request_duration",),
        "queue": ("tgi_request_queue_duration",),
    },
    engine=(),
    note="tokens are counted when their request ends",
)
DIALECTS = (VLLM, SGLANG, TGI)
