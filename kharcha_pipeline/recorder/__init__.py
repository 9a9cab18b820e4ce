"""Usage that no log file has: one synchronous call per model request, from any thread of any process.

Importing this room takes nothing but the standard library: it is imported by other people's proxies.
"""

from __future__ import annotations

from kharcha_pipeline.recorder.calls import RecordUsageInput, UsageCounts
from kharcha_pipeline.recorder.normalizers import (
    AnthropicStream,
    OpenAIStream,
    anthropic_usage,
    openai_usage,
)
from kharcha_pipeline.recorder.recorder import Recorder, Statistics

__all__ = [
    "AnthropicStream",
    "OpenAIStream",
    "RecordUsageInput",
    "Recorder",
    "Statistics",
    "UsageCounts",
    "anthropic_usage",
    "openai_usage",
]
