"""What a model is called, who makes it and how it was bought, from the raw names by syntax alone.

Agents write model names in the spelling of whoever they talked to: `us.anthropic.claude-sonnet-4-5-20250929-v1:0`,
`openrouter/anthropic/claude-sonnet-4.5`, `claude-4.5-sonnet`. Reports need one name, and keys made of it must never
change, so `names` looks at nothing but the text. Prices need more: a dated id may have its own price, an effort
suffix has none, an alias holds from some day on. `price_candidates` lists the *exact* ids a price may be looked up
under, best first. Nothing here compares names by likeness, and nothing here knows a price list.
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Literal, NamedTuple

from kharcha_pipeline.records import ServiceTier

MatchRule = Literal["exact", "route", "alias", "date", "effort"]
"""Why a price may be looked up under an id: the model's own name, its name in the route's list, a reviewed alias,
or its name without a date or without an effort suffix."""

SOURCE_PROVIDERS = {"claude-code": "anthropic", "codex": "openai", "kimi": "moonshotai"}
"""Who an agent talks to when its log does not say."""

_PROVIDERS = {
    "anthropic": ("claude", "claude-code"),
    "openai": (
        "openai-codex",
        "openai-responses",
        "openai-native",
        "openai-compatible-responses",
        "codex",
        "chatgpt",
    ),
    "google": ("gemini", "gemini-cli", "google-ai-studio", "google-generative-ai", "google-gemini"),
    "xai": ("x-ai", "x.ai"),
    "moonshotai": ("moonshot", "moonshot-ai", "kimi", "kimi-code", "kimi-for-coding"),
    "zai": ("z-ai", "z.ai", "zai-org", "zhipuai", "zhipu", "thudm"),
    "alibaba": ("qwen", "dashscope", "alibaba-cloud"),
    "deepseek": ("deepseek-ai",),
    "minimax": ("minimaxi", "minimaxai", "minimax-ai"),
    "mistral": ("mistralai",),
    "meta": ("meta-llama",),
    "xiaomi": ("xiaomimimo", "xiaomi-mimo"),
    "amazon": (),
    "nvidia": (),
    "cohere": ("cohereforai",),
    "cursor": (),
    "perplexity": (),
}
"""Vendors and the other spellings of their names, as providers and as the first part of a path."""

_ROUTES = {
    "amazon-bedrock": ("bedrock", "aws", "aws-bedrock"),
    "azure": ("azure-openai", "azure-cognitive-services", "azure-ai", "microsoft-foundry"),
    "google-vertex": ("vertex", "vertexai", "vertex-ai", "google-vertexai", "google-vertex-anthropic"),
    "github-copilot": ("copilot", "github-copilot-enterprise", "github.copilot"),
    "openrouter": (),
    "fireworks": ("fireworks-ai",),
    "together": ("togetherai", "together-ai"),
    "groq": (),
    "cerebras": (),
    "novita": ("novita-ai",),
    "baseten": (),
    "vercel": ("vercel-ai-gateway", "ai-gateway"),
    "opencode": ("opencode-zen",),
    "opencode-go": (),
    "ollama": (),
    "lmstudio": ("lm-studio",),
    "litellm": (),
    "local": ("llama.cpp", "llamacpp", "llama-cpp", "vllm", "mlx"),
}
"""Places that sell or run other vendors' models, and the other spellings of their names."""

LOCAL_ROUTES = frozenset({"ollama", "lmstudio", "local"})
"""Machines of one's own: nobody's list price applies."""

_SPELLINGS = {
    spelling: name
    for table in (_PROVIDERS, _ROUTES)
    for name, others in table.items()
    for spelling in (name, *others)
}

_OPENROUTER_MAKERS = {
    "alibaba": "qwen",
    "meta": "meta-llama",
    "mistral": "mistralai",
    "xai": "x-ai",
    "zai": "z-ai",
}
"""OpenRouter's spelling of vendors where it differs from ours."""

_VENDOR_WORDS = re.compile(
    r"""(?:^|(?<![a-z]))(?:
        (?P<anthropic>claude|opus|sonnet|haiku|fable|mythos)
      | (?P<openai>gpt|chatgpt|codex)
      | (?P<google>gemini|gemma)
      | (?P<xai>grok)
      | (?P<deepseek>deepseek)
      | (?P<moonshotai>kimi|moonshot)
      | (?P<alibaba>qwen|qwq|qvq)
      | (?P<zai>glm)
      | (?P<minimax>minimax)
      | (?P<mistral>mistral|mixtral|devstral|codestral|magistral|ministral|pixtral)
      | (?P<meta>llama)
      | (?P<xiaomi>mimo)
      | (?P<nvidia>nemotron)
      | (?P<cursor>composer)
    )(?![a-z])""",
    re.VERBOSE,
)
_VENDOR_SHORT_NAMES = (
    (re.compile(r"(?:^|(?<![a-z0-9]))o[134](?![a-z0-9])"), "openai"),
    (re.compile(r"^k[23](?:p\d)?(?![a-z0-9.])"), "moonshotai"),
)

_BRACKETS = re.compile(r"-?\[([^\[\]]*)\]$")
_ROUTER_VARIANT = re.compile(r":(?:free|thinking|beta|nitro|online|floor|exacto|extended|batch)$")
_BEDROCK = re.compile(
    r"^(?:(?:us|eu|apac|global|au|jp|ca|in|sa|me|af|il|mx|us-gov)\.)?"
    r"(anthropic|openai|meta|mistral|amazon|deepseek|qwen|moonshotai|moonshot|minimax|zai|nvidia|cohere|google)"
    r"\.(.+?)(?:-(?:v\d+(?::\d+)?|\d+:\d+)(?::\d+k)?)?$"
)
_CLAUDE_FAMILIES = "opus|sonnet|haiku|fable|mythos"
_CLAUDE_DATE = re.compile(r"-20\d{6}(?=$|-)")
_CLAUDE_NUMBER_FIRST = re.compile(rf"^claude-(\d{{1,2}})(?:-(\d{{1,2}}))?-({_CLAUDE_FAMILIES})(?=$|-)")
_CLAUDE_FAMILY_FIRST = re.compile(rf"^claude-({_CLAUDE_FAMILIES})-(\d{{1,2}})(?:-(\d{{1,2}}))?(?=$|-)")
_CLAUDE_JOINED = re.compile(rf"^(claude-(?:{_CLAUDE_FAMILIES})-\d)(\d)(?=$|-)")
_CLAUDE_BARE = re.compile(rf"^(?=(?:{_CLAUDE_FAMILIES})-\d)")

_DATE = re.compile(r"-20\d\d-?\d\d-?\d\d$|-\d\d-20\d\d$|-latest$|-0\d\d$")
_PREVIEW_DATE = re.compile(r"-(preview|exp)-(?:\d\d-\d\d|\d\d-20\d\d)$")
_EFFORT = re.compile(r"-(?:minimal|low|medium|high|xhigh)$")
_THINKING = re.compile(r"-(?:thinking|think)$")
_EFFORT_VENDORS = frozenset({"anthropic", "openai", "google", "xai"})
"""Vendors whose routes append the effort to the name although it does not change the price of a token."""


class Names(NamedTuple):
    """The names of one model use.

    Attributes:
        provider: vendor of the model; the provider as logged when the vendor cannot be told; else `''`.
        model: the model in lower case, without context, speed and route decorations; `''` for none.
        route: how it was bought when not from its vendor (`openrouter`, `amazon-bedrock`), else `''`.
        service_tier_hint: the tier the raw name states (`-fast`, `:batch`), else `None`.
    """

    provider: str
    model: str
    route: str
    service_tier_hint: ServiceTier | None = None


class PriceCandidate(NamedTuple):
    """An exact id under which a price may be looked up.

    Attributes:
        provider: whose list: a vendor or a route.
        model: the id in that list, in lower case.
        rule: why this id may stand for the model.
        tier_in_name: whether the id already says the service tier (`claude-opus-4.8-fast`).
        only_overrides: whether only the user's own prices count: the list prices are for something else.
    """

    provider: str
    model: str
    rule: MatchRule
    tier_in_name: bool = False
    only_overrides: bool = False


class Alias(NamedTuple):
    """A reviewed statement that a name means the price of another model, from a day to the day before another."""

    match: str
    provider: str
    model: str
    effective_from: date
    effective_to: date | None = None
    tool: str = ""

    def holds(self, source: str, name: str, day: date) -> bool:
        """Whether it speaks about this name, of this agent, on this day."""
        return (
            name == self.match
            and self.tool in ("", source)
            and self.effective_from <= day
            and (self.effective_to is None or day < self.effective_to)
        )


@lru_cache(maxsize=65_536)
def names(source: str, provider_raw: str, model_raw: str) -> Names:
    """Normalizes what an agent wrote. Depends on these three texts alone, so it never changes with a price list.

    Args:
        source: the agent; it says who is talked to when the log does not.
        provider_raw: provider as logged, or `''`.
        model_raw: model as logged, or `''`.
    """
    seller = provider_name(provider_raw)
    text = model_raw.strip().lower()
    if not text or (text.startswith("<") and text.endswith(">")):  # `<synthetic>` is made by the agent itself
        vendor = seller if seller in _PROVIDERS or not seller else ""
        return Names(vendor or SOURCE_PROVIDERS.get(source, "") or seller, "", seller if seller in _ROUTES else "")

    if seller == "cursor":  # tells some models by what its menu calls them: "Claude 4.5 Sonnet"
        text = re.sub(r"[\s_]+", "-", text)
    text, maker, tier = _undecorated(text)
    path_route, path_maker, text = _last_of_path(text)
    text, more_maker, more_tier = _undecorated(text)
    text = text.partition("@")[0]  # Vertex: claude-opus-4-6@20260205
    bedrock = _BEDROCK.match(text)
    if bedrock:
        path_route, path_maker, text = "amazon-bedrock", provider_name(bedrock[1]), bedrock[2]

    maker = maker or more_maker or path_maker or _maker_by_word(text)
    provider = maker or (seller if seller not in _ROUTES else "") or SOURCE_PROVIDERS.get(source, "") or seller
    model, suffix_tier = _vendor_spelling(provider, text)
    route = path_route or seller
    if route == provider or (route == "google-vertex" and provider == "google"):
        route = ""
    return Names(provider, model, route, tier or more_tier or suffix_tier)


def provider_name(text: str) -> str:
    """One spelling per vendor and route: `x-ai` is `xai`, `bedrock` is `amazon-bedrock`; others stay as they are.

    A suffix `-cn` is no spelling: the vendors' Chinese platforms have price lists of their own.
    """
    name = re.sub(r"[\s_]+", "-", text.strip().lower())
    return _SPELLINGS.get(name, name)


@lru_cache(maxsize=65_536)
def price_candidates(provider: str, model: str, route: str, model_raw: str) -> tuple[PriceCandidate, ...]:
    """Exact ids to look a price up under, best first: the route's own list, then the vendor's.

    Args:
        provider: as `names` gave it.
        model: as `names` gave it; without a model there are no candidates.
        route: as `names` gave it.
        model_raw: model as logged: a route's list knows the route's own spelling.
    """
    if not model:
        return ()
    found: dict[tuple[str, str], PriceCandidate] = {}

    def add(candidate: PriceCandidate) -> None:
        found.setdefault((candidate.provider, candidate.model), candidate)

    raw = model_raw.strip().lower()
    seller = route or (provider if provider in _ROUTES else "")
    in_route = _names_in_route(provider, model, seller, raw) if seller else []
    if raw.endswith(":free"):  # another offer than the one with a price; the user alone may say that it costs 0
        for name in [name for name in in_route if name.endswith(":free")]:
            add(PriceCandidate(seller, name, "route"))
        add(PriceCandidate(provider, raw.rpartition("/")[2], "exact", only_overrides=True))
        return tuple(found.values())
    for name in in_route:
        add(PriceCandidate(seller, name, "route", tier_in_name=name != model and _says_tier(name, model)))
    # What runs at home or is sold on a Chinese platform is not bought at the vendor's list price.
    off_list = seller in LOCAL_ROUTES or seller.endswith("-cn")
    for name, rule in _names_in_list(provider, model):
        add(PriceCandidate(provider, name, rule, only_overrides=off_list))
    return tuple(found.values())


@cache
def shipped_aliases() -> tuple[Alias, ...]:
    """The reviewed aliases that come with this version; they only ever choose a price."""
    import tomllib

    text = resources.files(__package__).joinpath("aliases.toml").read_text(encoding="utf-8")
    return tuple(
        Alias(row["match"], row["provider"], row["model"], row["effective_from"], row.get("effective_to"))
        for row in tomllib.loads(text)["alias"]
    )


def _undecorated(text: str) -> tuple[str, str, ServiceTier | None]:
    """The name without what routes and agents put around it, with the vendor and the tier that said."""
    maker = ""
    tier: ServiceTier | None = None
    while True:
        before = text
        text = text.removeprefix("custom:").removesuffix("-1m-internal")
        if brackets := _BRACKETS.search(text):
            inside = provider_name(brackets[1])
            if inside in _PROVIDERS:
                maker = maker or inside
            if inside in _PROVIDERS or re.fullmatch(r"\d+m", inside):  # [Anthropic], [1m]
                text = text[: brackets.start()]
        if variant := _ROUTER_VARIANT.search(text):
            if variant[0] == ":batch":
                tier = "batch"
            text = text[: variant.start()]
        if text == before:
            return text, maker, tier


def _last_of_path(text: str) -> tuple[str, str, str]:
    """Route, vendor and last part of a path like `openrouter/anthropic/claude-sonnet-4.6` or an ARN."""
    if "/" not in text:
        return "", "", text
    *before, last = [part for part in text.split("/") if part] or [""]
    route = maker = ""
    if before and before[0].startswith("arn:aws:bedrock"):
        return "amazon-bedrock", "", last
    for part in before:
        name = provider_name(part.lstrip("~"))
        if name in _ROUTES:
            route = route or name
        elif name in _PROVIDERS:
            maker = name
    return route, maker, last


def _maker_by_word(text: str) -> str:
    """The vendor whose word stands first in a name: `deepseek-r1-distill-qwen-32b` is DeepSeek's."""
    if found := _VENDOR_WORDS.search(text):
        return str(found.lastgroup)
    return next((maker for pattern, maker in _VENDOR_SHORT_NAMES if pattern.search(text)), "")


def _vendor_spelling(provider: str, text: str) -> tuple[str, ServiceTier | None]:
    """The vendor's own spelling, and the tier that a suffix states.

    `-fast` is a speed of the same model at Anthropic and OpenAI only: `grok-4-fast` is another model than `grok-4`.
    """
    tier: ServiceTier | None = None
    if provider in ("anthropic", "openai") and text.endswith("-fast"):
        text, tier = text.removesuffix("-fast"), "fast"
    if provider == "anthropic":
        text = _claude(text.removesuffix("-1m"))
    return text, tier


def _claude(text: str) -> str:
    """Anthropic's order and punctuation: `claude-4.6-opus` is `claude-opus-4-6`; version 3 has its number first."""
    text = _CLAUDE_BARE.sub("claude-", _CLAUDE_DATE.sub("", text))
    text = re.sub(r"(?<=\d)\.(?=\d)", "-", text)
    text = _CLAUDE_JOINED.sub(r"\1-\2", text)
    if match := _CLAUDE_NUMBER_FIRST.match(text):
        major, minor, family = match.groups()
    elif match := _CLAUDE_FAMILY_FIRST.match(text):
        family, major, minor = match.groups()
    else:
        return text
    version = f"{major}-{minor}" if minor is not None else major
    start = f"claude-{version}-{family}" if int(major) <= 3 else f"claude-{family}-{version}"
    return start + text[match.end() :]


def _names_in_route(provider: str, model: str, route: str, raw: str) -> list[str]:
    parts = [part for part in raw.split("/") if part]
    tails = ["/".join(parts[index:]) for index in range(len(parts))]
    if route == "openrouter" and tails:
        tails.append(f"{_OPENROUTER_MAKERS.get(provider, provider)}/{tails[-1]}")
    if route == "amazon-bedrock" and tails:
        without_version = re.sub(r"-v\d+(?::\d+)?(?::\d+k)?$", "", tails[-1])
        tails += [without_version, _CLAUDE_DATE.sub("", without_version)]
    return [*tails, model]


def _says_tier(name: str, model: str) -> bool:
    return name.endswith(("-fast", ":batch")) and not model.endswith("-fast")


def _names_in_list(provider: str, model: str) -> list[tuple[str, MatchRule]]:
    """The model itself, then without its date, then without its effort: each only as an exact id."""
    listed: list[tuple[str, MatchRule]] = [(model, "exact")]
    dateless = _DATE.sub("", model)
    if provider == "google":
        preview = _PREVIEW_DATE.sub(r"-\1", model)
        listed += [(preview, "date"), (re.sub(r"-(?:preview|exp)$", "", preview), "date")] if preview != model else []
    listed.append((dateless, "date"))
    if provider in _EFFORT_VENDORS:
        effortless = dateless
        while (shorter := _without_effort(provider, effortless)) != effortless:
            effortless = shorter
            listed.append((effortless, "effort"))
    return list({name: (name, rule) for name, rule in reversed(listed)}.values())[::-1]


def _without_effort(provider: str, name: str) -> str:
    shorter = _EFFORT.sub("", name)
    if shorter == name and provider == "anthropic":
        shorter = _THINKING.sub("", name)
    return shorter
