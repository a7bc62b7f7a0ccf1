"""Credentials in urls and messages: which urls carry one, and texts without them."""

import re
from urllib.parse import unquote

_SECRET_NAME = re.compile(
    r".*(token|secret|passw|pwd|signature|credential|api[-_]?key|access[-_]?key|authori[sz]|session[-_]?id|jwt|bearer)"
    r"|(.*[-_.])?(sig|key|auth|sas|hmac|hdn\w+)$",
    re.I,
)
# what separates parameters, as urls, HTML and JSON write it, and percent-encoded
_BEFORE = r"(?:[?&#;]|&amp;|\\u0026|\\u003[fF]|%26|%3[fF])"
_PARAMETER = re.compile(
    _BEFORE + r"([^=&#?;\s'\"<>%\\]*(?:%(?!26|3[dDfF])[^=&#?;\s'\"<>%\\]*)*)(?:=|%3[dD]|\\u003[dD])"
)
_VALUE = r"(?:(?!\\u0026|%26)[^&#\s'\"<>)])+"
_USER = re.compile(r"(?<=//)[^/\s?#'\"<>]*@")
_BARE_USER = re.compile(r"(?<![\w/.@:%-])[^\s/@:'\"<>(=]+:[^\s/@'\"<>]+@(?=[\w-]+(?:\.[\w-]+|:\d+|/))")
_QUERY = re.compile(r"(?<=\?)[^\s'\")>]+")
_QUOTED = re.compile(r"(\\?[\"'])([\w.-]+)(\\?[\"']\s*:\s*\\?[\"'])((?:(?!\\?[\"']).)+)")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.I)
_LONG_USER = 16  # characters from which a user without a password is rather a token


def secret_in(url: str) -> str | None:
    """What a url carries that must not be written into tables, in words; None for a url that may be shown."""
    if "://" not in url or url.startswith("file://"):
        return None
    for user in _USER.findall(url):
        if ":" in unquote(user):
            return "a user's password"
        if len(user) > _LONG_USER:
            return "a user's token"
    for found in _PARAMETER.finditer(url):
        name = unquote(found[1])
        if _SECRET_NAME.match(name) and re.match(_VALUE, url[found.end() :]):
            return f"a credential (its parameter {name!r})"
    return None


def redacted(text: str) -> str:
    """A text without the users, passwords, queries and other credentials of the urls in it, whole or in parts."""
    text = _USER.sub("…@", text)
    if "://" in text:
        text = _QUERY.sub("…", text)
    if "@" in text:
        text = _BARE_USER.sub("…@", text)
    text = _BEARER.sub(lambda found: f"{found[1]} …", text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{found[2]}{found[3]}…" if _is_secret(found[2]) else found[0], text)
    return _without_values(text)


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.match(unquote(name)))


def _without_values(text: str) -> str:
    """A text without the values of parameters that hold credentials, also where a url is quoted in parts."""
    kept: list[str] = []
    at = 0
    for found in re.finditer(r"(?:^|(?<=[\s'\"(,]))([\w.%-]+)=|" + _PARAMETER.pattern, text):
        if found.start() >= at and _is_secret(found[1] or found[2] or ""):
            value = re.compile(_VALUE).match(text, found.end())
            kept += [text[at : found.end()], "…"] if value else []
            at = value.end() if value else at
    return "".join([*kept, text[at:]])
