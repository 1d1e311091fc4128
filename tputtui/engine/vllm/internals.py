"""Every private part of vLLM and torch that this package relies on. Read it first at an upgrade.

Each row: the path, its purpose, the version in which it was read. A test looks up each row in the
installed vLLM, and reports private parts that the modules of this package use without a row.
"""

from __future__ import annotations

__all__ = ["IN_MODULES", "IN_THE_ENGINE", "LATER", "NOT_EVERYWHERE"]

_CORE = "engine_core.engine_core"
_SCHEDULER = f"{_CORE}.scheduler"
_POOL = f"{_SCHEDULER}.kv_cache_manager.block_pool"

IN_THE_ENGINE = (
    # inproc: path from LLMEngine
    (_SCHEDULER, "the scheduler whose limits are changed", "0.32"),
    (f"{_SCHEDULER}.requests", "requests by internal id", "0.32"),
    (f"{_SCHEDULER}.get_request_counts", "running and waiting", "0.32"),
    (f"{_SCHEDULER}.kv_cache_config.kv_cache_groups", "layers by kind", "0.32"),
    ("output_processor.request_states", "what a request that is ended early has had", "0.32"),
    ("vllm_config.model_config.max_model_len", "ceilings", "0.32"),
    ("vllm_config.model_config.hf_config.to_diff_dict", "which model it is", "0.32"),
    ("vllm_config.model_config.skip_tokenizer_init", "whether there is text", "0.32"),
    # resolving
    ("vllm_config.compilation_config.static_forward_context", "attention by layer", "0.32"),
    ("vllm_config.compilation_config.cudagraph_mode", "CUDA graphs", "0.32"),
    ("vllm_config.compilation_config.cudagraph_capture_sizes", "batches captured", "0.32"),
    ("vllm_config.cache_config.cache_dtype", "what the KV cache holds", "0.32"),
    ("vllm_config.scheduler_config.async_scheduling", "whether steps overlap", "0.32"),
    # sampling
    ("vllm_config.model_config.get_diff_sampling_param", "a server's own defaults", "0.32"),
    # watch
    ("engine_core.get_output", "wrapped: first tokens as they come", "0.32"),
    (f"{_SCHEDULER}.schedule", "wrapped: what each step schedules", "0.32"),
    (f"{_SCHEDULER}.update_from_output", "wrapped: its time", "0.32"),
    (f"{_SCHEDULER}.get_grammar_bitmask", "wrapped: the time of structured output", "0.32"),
    (f"{_SCHEDULER}.running", "sequences in the batch", "0.32"),
    # asking
    (f"{_SCHEDULER}.lora_config", "how many adapters a batch may have", "0.32"),
    # limits
    (f"{_SCHEDULER}.max_num_running_reqs", "batch slots booted", "0.32"),
    (f"{_SCHEDULER}.max_num_scheduled_tokens", "live token limit", "0.32"),
    (f"{_SCHEDULER}.max_model_len", "length booted", "0.32"),
    (f"{_SCHEDULER}.scheduler_config.long_prefill_token_threshold", "live, 0 is none", "0.32"),
    (f"{_SCHEDULER}.policy", "live, with the queues rebuilt", "0.32"),
    (f"{_SCHEDULER}.waiting", "the queue that a policy orders", "0.32"),
    (f"{_SCHEDULER}._preempt_request", "preempting now", "0.32"),
    (f"{_SCHEDULER}.reset_prefix_cache", "emptying the prefix cache", "0.32"),
    (f"{_SCHEDULER}.kv_cache_manager.enable_caching", "look-ups off and on", "0.32"),
    (f"{_POOL}.num_gpu_blocks", "KV size", "0.32"),
    (f"{_POOL}.get_new_blocks", "holding blocks", "0.32"),
    (f"{_POOL}.free_blocks", "giving them back", "0.32"),
    (f"{_POOL}.get_num_free_blocks", "what can be held", "0.32"),
    # drafting
    (f"{_SCHEDULER}.vllm_config.speculative_config", "whether and how it drafts", "0.32"),
    # workers
    (f"{_CORE}.model_executor", "worker processes, where it has them", "0.32"),
)
"""Paths from a booted LLMEngine."""

NOT_EVERYWHERE = (
    (f"{_SCHEDULER}.max_num_active_reqs", "live admission limit, 0.31 and newer", "0.32"),
    (f"{_SCHEDULER}.kv_cache_manager.watermark_blocks", "live watermark", "0.32"),
    (f"{_SCHEDULER}.scheduler_reserve_full_isl", "live admission rule", "0.32"),
    (f"{_SCHEDULER}.dynamic_sd_lookup", "live number of draft tokens", "0.32"),
    (f"{_SCHEDULER}.scheduler_config.max_num_queued_reqs", "as booted, 0.29 and newer", "0.32"),
    (f"{_SCHEDULER}.scheduler_config.max_num_queued_tokens", "as booted, 0.29 and newer", "0.32"),
    (f"{_SCHEDULER}.prev_step_scheduled_req_ids", "what a preempted request leaves", "0.32"),
    # admission
    ("output_processor.get_num_unfinished_requests", "how many are in flight", "0.32"),
    ("output_processor.get_num_queued_tokens", "their prompts, 0.29 and newer", "0.32"),
)
"""Paths that some supported versions lack; then the limit is fixed, or changed another way."""

LATER = (
    (f"{_SCHEDULER}.local_prefill_interval", "live cadence of prefill", "0.33"),
    (f"{_SCHEDULER}.parallel_config.data_parallel_size", "whose cadence it is", "0.33"),
)
"""Paths that are not in the version the others were read in; without them a limit is fixed."""

IN_MODULES = (
    # args
    ("vllm:__version__", "which vLLM it is", "0.32"),
    ("vllm.engine.arg_utils:EngineArgs", "what an engine is booted with", "0.32"),
    ("vllm.utils.argparse_utils:FlexibleArgumentParser", "the parser of `vllm serve`", "0.32"),
    ("vllm.model_executor.layers.quantization:QUANTIZATION_METHODS", "choices", "0.32"),
    ("vllm.model_executor.model_loader:LoadFormats", "choices", "0.32"),
    ("vllm.v1.attention.backends.registry:AttentionBackendEnum", "choices", "0.32"),
    # resolving
    ("vllm.logger:_print_info_once", "what a process says once, said at each boot", "0.32"),
    ("vllm.logger:_print_warning_once", "and its warnings", "0.32"),
    # inproc
    ("vllm.v1.engine.llm_engine:LLMEngine", "the engine", "0.32"),
    ("vllm:exceptions", "what a request that is refused raises", "0.32"),
    ("vllm.sampling_params:SamplingParams", "a request", "0.32"),
    ("vllm.sampling_params:StructuredOutputsParams", "the form of its answer", "0.32"),
    ("vllm.lora.request:LoRARequest", "its adapter", "0.32"),
    ("vllm.sampling_params:RequestOutputKind", "outputs once, at the end", "0.32"),
    ("vllm.usage.usage_lib:UsageContext", "defaults of a server", "0.32"),
    ("vllm.v1.metrics.loggers:StatLoggerBase", "statistics of each step", "0.32"),
    # limits
    ("vllm.v1.core.sched.request_queue:SchedulingPolicy", "the policy by its name", "0.32"),
    ("vllm.v1.core.sched.request_queue:create_request_queue", "a queue for it", "0.32"),
    # executor, model: simulations
    ("vllm.v1.executor.abstract:Executor", "the class that a stand-in is one of", "0.32"),
    ("vllm.v1.outputs:EMPTY_MODEL_RUNNER_OUTPUT", "what an empty step gives", "0.32"),
    ("vllm.v1.outputs:ModelRunnerOutput", "what a step gives", "0.32"),
    ("vllm.v1.kv_cache_interface:FullAttentionSpec", "the KV cache of a layer", "0.32"),
    ("vllm.v1.kv_cache_interface:SlidingWindowSpec", "that of a windowed one", "0.32"),
    ("vllm.v1.kv_cache_interface:MLAAttentionSpec", "that of a compressed one", "0.32"),
    # states: simulated hybrids
    ("vllm.v1.kv_cache_interface:MambaSpec", "what a layer keeps instead", "0.32"),
    ("vllm.v1.attention.backend:MultipleOf", "in which steps blocks grow", "0.32"),
    ("vllm.model_executor.models:ModelRegistry", "the class that knows its states", "0.32"),
    ("vllm.platforms.interface:Platform._align_hybrid_block_size", "blocks as states", "0.32"),
    ("vllm.model_executor.models.config:MODELS_CONFIG_MAP", "a model's own defaults", "0.32"),
    ("transformers:PretrainedConfig", "a model's configuration", "5.19"),
    ("transformers:AutoModelForCausalLM", "a model's sizes, built without weights", "5.19"),
    # serve, and the plugin inside it
    ("vllm.entrypoints.cli.serve:ServeSubcommand", "`vllm serve` as a child", "0.32"),
    ("vllm.platforms:current_platform", "whether it runs under Ray", "0.32"),
    ("vllm.v1.engine.core:EngineCore", "our question between two steps", "0.32"),
    ("vllm.v1.engine.core:EngineCoreProc._handle_client_request", "asked at a socket", "0.32"),
    ("vllm.v1.engine.core:EngineCoreProc._process_input_queue", "an engine's loop begins", "0.32"),
    ("vllm.v1.engine:EngineCoreRequestType", "waking an idle engine for that", "0.32"),
    ("vllm.v1.engine.core:EngineCore.pause_scheduler", "pausing a server's engine", "0.32"),
    ("vllm.v1.engine.core:EngineCore.resume_scheduler", "and letting it go on", "0.32"),
    ("vllm.v1.engine.async_llm:AsyncLLM.check_admission", "a front's own refusals", "0.32"),
    ("vllm.v1.engine.core_client:AsyncMPClient._call_utility_async", "asking one engine", "0.32"),
    ("vllm.v1.metrics.loggers:AggregateStatLoggerBase", "requests that end, at a front", "0.32"),
    # defaults
    ("vllm.engine.arg_utils:current_platform", "another device's name and memory", "0.32"),
    ("vllm.engine.arg_utils:EngineArgs.get_batch_defaults", "defaults by the device", "0.32"),
    # clock: modules that read the time
    ("vllm.v1.core.sched.scheduler:time", "another clock for queues", "0.32"),
    ("vllm.v1.request:time", "another clock for requests", "0.32"),
    ("vllm.v1.engine.input_processor:time", "another clock for arrivals", "0.32"),
    # kernels
    ("vllm.triton_utils.dispatcher:_registry", "whether a boot has replaced kernels", "0.32"),
    ("vllm.platforms.cpu:CpuPlatform.register_triton_kernel_overrides", "not again", "0.32"),
    # drafting
    ("vllm.config.speculative:SpeculativeConfig", "its schedule of draft tokens", "0.32"),
    # compiled
    ("torch._dynamo.convert_frame:_bytecode_hooks", "what a compiled model leaves", "torch 2.11"),
    ("vllm.compilation.wrapper", "whose hooks those are", "0.32"),
)
"""Paths as `module:name`, or a module."""
