"""Names: vendor, model, route and tier from the raw names by syntax alone; exact ids for prices."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.events.names import Names, names, price_candidates, provider_name, shipped_aliases

CASES = [
    # Anthropic: dates, punctuation, order, context suffixes
    ("claude-code", "", "claude-opus-4-5-20251101", Names("anthropic", "claude-opus-4-5", "")),
    ("claude-code", "", "claude-sonnet-4-20250514", Names("anthropic", "claude-sonnet-4", "")),
    ("claude-code", "", "claude-3-5-sonnet-20241022", Names("anthropic", "claude-3-5-sonnet", "")),
    ("claude-code", "", "claude-sonnet-4-5-20250929[1m]", Names("anthropic", "claude-sonnet-4-5", "")),
    ("claude-code", "", "claude-opus-4-6[1m]", Names("anthropic", "claude-opus-4-6", "")),
    ("claude-code", "", " Claude-Opus-4.6 ", Names("anthropic", "claude-opus-4-6", "")),
    ("opencode", "anthropic", "claude-4.6-opus", Names("anthropic", "claude-opus-4-6", "")),
    ("opencode", "anthropic", "claude-4-sonnet", Names("anthropic", "claude-sonnet-4", "")),
    ("opencode", "anthropic", "claude-sonnet-45", Names("anthropic", "claude-sonnet-4-5", "")),
    ("opencode", "anthropic", "claude-3.7-sonnet", Names("anthropic", "claude-3-7-sonnet", "")),
    ("opencode", "anthropic", "claude-sonnet-3.7", Names("anthropic", "claude-3-7-sonnet", "")),
    (
        "cursor",
        "cursor",
        "claude-4.5-opus-high-thinking",
        Names("anthropic", "claude-opus-4-5-high-thinking", "cursor"),
    ),
    ("droid", "", "custom:Claude-Opus-4.5-[Anthropic]", Names("anthropic", "claude-opus-4-5", "")),
    ("copilot", "github-copilot", "claude-opus-4.6-1m", Names("anthropic", "claude-opus-4-6", "github-copilot")),
    ("copilot", "copilot", "claude-opus-4.6-1m-internal", Names("anthropic", "claude-opus-4-6", "github-copilot")),
    # OpenAI: dates stay, dots stay
    ("codex", "openai", "gpt-5.4-2026-03-05", Names("openai", "gpt-5.4-2026-03-05", "")),
    ("codex", "", "gpt-5.1-codex-max", Names("openai", "gpt-5.1-codex-max", "")),
    ("codex", "", "codex-auto-review", Names("openai", "codex-auto-review", "")),
    ("opencode", "openai-codex", "o3", Names("openai", "o3", "")),
    # speed suffixes are tiers where the vendor sells speed, and part of the name elsewhere
    ("opencode", "anthropic", "claude-opus-4-6-fast", Names("anthropic", "claude-opus-4-6", "", "fast")),
    ("cursor", "", "gpt-5.4-fast", Names("openai", "gpt-5.4", "", "fast")),
    ("opencode", "xai", "grok-4-fast", Names("xai", "grok-4-fast", "")),
    ("opencode", "x-ai", "grok-code-fast-1", Names("xai", "grok-code-fast-1", "")),
    ("cursor", "cursor", "composer-2.5-fast", Names("cursor", "composer-2.5-fast", "")),
    # routes
    ("opencode", "openrouter", "anthropic/claude-sonnet-4.6", Names("anthropic", "claude-sonnet-4-6", "openrouter")),
    ("x", "", "openrouter/anthropic/claude-sonnet-4.6:beta", Names("anthropic", "claude-sonnet-4-6", "openrouter")),
    ("opencode", "openrouter", "z-ai/glm-4.6:free", Names("zai", "glm-4.6", "openrouter")),
    (
        "opencode",
        "openrouter",
        "anthropic/claude-opus-4.5:batch",
        Names("anthropic", "claude-opus-4-5", "openrouter", "batch"),
    ),
    ("opencode", "openrouter", "stealth/horizon", Names("openrouter", "horizon", "")),
    ("opencode", "fireworks-ai", "accounts/fireworks/models/glm-5p2", Names("zai", "glm-5p2", "fireworks")),
    ("gemini", "", "models/gemini-3-pro", Names("google", "gemini-3-pro", "")),
    ("opencode", "google-vertex", "gemini-2.5-pro", Names("google", "gemini-2.5-pro", "")),
    (
        "opencode",
        "google-vertex-anthropic",
        "claude-opus-4-6@20260205",
        Names("anthropic", "claude-opus-4-6", "google-vertex"),
    ),
    (
        "opencode",
        "amazon-bedrock",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Names("anthropic", "claude-sonnet-4-5", "amazon-bedrock"),
    ),
    (
        "claude-code",
        "",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.anthropic.claude-opus-4-6-v1",
        Names("anthropic", "claude-opus-4-6", "amazon-bedrock"),
    ),
    ("opencode", "github-copilot", "claude-sonnet-4.5", Names("anthropic", "claude-sonnet-4-5", "github-copilot")),
    ("opencode", "vercel", "anthropic/claude-opus-4.6", Names("anthropic", "claude-opus-4-6", "vercel")),
    ("opencode", "opencode", "claude-sonnet-4-6", Names("anthropic", "claude-sonnet-4-6", "opencode")),
    ("opencode", "opencode", "big-pickle", Names("opencode", "big-pickle", "")),
    ("opencode", "zai-coding-plan", "glm-4.6", Names("zai", "glm-4.6", "zai-coding-plan")),
    ("opencode", "moonshotai-cn", "kimi-k2.5", Names("moonshotai", "kimi-k2.5", "moonshotai-cn")),
    ("opencode", "ollama", "llama3:70b", Names("meta", "llama3:70b", "ollama")),
    # gateways put other vendors' models into an agent's logs
    ("claude-code", "", "deepseek-chat", Names("deepseek", "deepseek-chat", "")),
    ("claude-code", "", "kimi-k2-thinking", Names("moonshotai", "kimi-k2-thinking", "")),
    ("claude-code", "", "GLM-4.6", Names("zai", "glm-4.6", "")),
    ("claude-code", "", "MiniMax-M2.1", Names("minimax", "minimax-m2.1", "")),
    ("claude-code", "", "qwen3-coder-plus", Names("alibaba", "qwen3-coder-plus", "")),
    ("opencode", "groq", "deepseek-r1-distill-llama-70b", Names("deepseek", "deepseek-r1-distill-llama-70b", "groq")),
    # what the source says when nothing else does
    ("claude-code", "", "a-new-model", Names("anthropic", "a-new-model", "")),
    ("kimi", "", "kimi-code/kimi-for-coding", Names("moonshotai", "kimi-for-coding", "")),
    ("kimi", "kimi", "k3", Names("moonshotai", "k3", "")),
    ("kimi", "", "k2p5", Names("moonshotai", "k2p5", "")),
    ("opencode", "My Proxy", "a-new-model", Names("my-proxy", "a-new-model", "")),
    ("opencode", "", "a-new-model", Names("", "a-new-model", "")),
    # no model
    ("claude-code", "", "<synthetic>", Names("anthropic", "", "")),
    ("claude-code", "", "", Names("anthropic", "", "")),
    ("opencode", "", " ", Names("", "", "")),
]


@pytest.mark.parametrize(
    ("model_raw", "expected"),
    [
        ("claude-4.5-sonnet", Names("anthropic", "claude-sonnet-4-5", "cursor")),
        ("Claude 4.5 Sonnet", Names("anthropic", "claude-sonnet-4-5", "cursor")),
        ("GPT-5 High", Names("openai", "gpt-5-high", "cursor")),
        ("gpt-5-fast", Names("openai", "gpt-5", "cursor", "fast")),
        ("composer-1", Names("cursor", "composer-1", "")),
        ("default", Names("cursor", "default", "")),
        ("auto", Names("cursor", "auto", "")),
    ],
)
def test_a_vendor_s_account_is_the_route_of_what_others_make(model_raw: str, expected: Names) -> None:
    assert names("accounts", "cursor", model_raw) == expected


@pytest.mark.parametrize(("source", "provider_raw", "model_raw", "expected"), CASES)
def test_names_come_from_syntax(source: str, provider_raw: str, model_raw: str, expected: Names) -> None:
    assert names(source, provider_raw, model_raw) == expected


@pytest.mark.parametrize("word", ["pro1ogue", "foo1", "ollama-x", "gptish", "claudette", "skimitar"])
def test_a_vendor_is_recognized_by_whole_words_only(word: str) -> None:
    assert names("opencode", "", word).provider == ""


def test_a_normalized_name_is_its_own_normal_form() -> None:
    for source, provider_raw, _, expected in CASES:
        again = names(source, provider_raw, expected.model)
        assert again.model == expected.model


@given(st.text(max_size=12), st.text(max_size=20), st.text(max_size=60))
@settings(max_examples=200)
def test_any_text_has_names_in_lower_case(source: str, provider_raw: str, model_raw: str) -> None:
    found = names(source, provider_raw, model_raw)
    assert found.model == found.model.lower()
    price_candidates(found.provider, found.model, found.route, model_raw)


def test_spellings_of_a_provider_are_one_and_chinese_platforms_are_another() -> None:
    assert {provider_name(text) for text in ("x-ai", "xAI", " XAI ")} == {"xai"}
    assert provider_name("zhipuai") == provider_name("z.ai") == "zai"
    assert provider_name("alibaba-cn") == "alibaba-cn"


def candidates(provider_raw: str, model_raw: str) -> list[tuple[str, str]]:
    found = names("opencode", provider_raw, model_raw)
    return [c[:2] for c in price_candidates(found.provider, found.model, found.route, model_raw)]


def test_a_price_is_looked_up_under_the_dated_id_before_the_plain_one() -> None:
    assert candidates("openai", "gpt-4o-2024-05-13") == [("openai", "gpt-4o-2024-05-13"), ("openai", "gpt-4o")]


def test_effort_suffixes_are_taken_off_one_after_the_other() -> None:
    assert candidates("anthropic", "claude-4.5-opus-high-thinking") == [
        ("anthropic", "claude-opus-4-5-high-thinking"),
        ("anthropic", "claude-opus-4-5-high"),
        ("anthropic", "claude-opus-4-5"),
    ]


def test_thinking_is_part_of_the_name_where_it_is_another_model() -> None:
    assert candidates("moonshotai", "kimi-k2-thinking") == [("moonshotai", "kimi-k2-thinking")]


def test_the_list_of_the_route_comes_before_the_vendors() -> None:
    listed = candidates("openrouter", "anthropic/claude-sonnet-4.6")
    assert listed[0] == ("openrouter", "anthropic/claude-sonnet-4.6")
    assert listed[-1] == ("anthropic", "claude-sonnet-4-6")


def test_a_free_offer_is_never_priced_as_the_paid_model() -> None:
    found = price_candidates("deepseek", "deepseek-chat", "openrouter", "deepseek/deepseek-chat:free")
    assert all(candidate.model.endswith(":free") for candidate in found)


def test_local_models_have_no_list_price() -> None:
    found = price_candidates("openai", "gpt-oss-120b", "ollama", "gpt-oss-120b")
    assert all(candidate.only_overrides for candidate in found if candidate.provider == "openai")


def test_an_id_that_names_its_tier_says_so() -> None:
    (first, *_) = price_candidates("anthropic", "claude-opus-4-8", "github-copilot", "claude-opus-4.8-fast")
    assert (first.provider, first.model, first.tier_in_name) == ("github-copilot", "claude-opus-4.8-fast", True)


def test_plan_and_router_names_have_no_alias() -> None:
    matched = {alias.match for alias in shipped_aliases()}
    assert matched.isdisjoint({"kimi-for-coding", "codex-auto-review", "auto", "big-pickle", "k2p5", "composer-1"})


def test_an_alias_holds_for_its_days_only() -> None:
    alias = next(alias for alias in shipped_aliases() if alias.match == "k3")
    assert alias.holds("kimi", "k3", date(2026, 7, 15))
    assert not alias.holds("kimi", "k3", date(2026, 7, 14))
