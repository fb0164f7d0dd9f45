"""From a definition and its parameters to a tree of work. Pure, and the same for the same trace: a fleet
that starts again goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tower.demo.definitions import PARTS
from tower.demo.work import Failure, Work
from tower.schemas import ActorType

AGENT, GROUP_AGG, SINGLE_AGG = ActorType.AGENT, ActorType.GROUP_AGG, ActorType.SINGLE_AGG

TARGETS = ("Tesla", "NVIDIA", "Rivian", "Siemens Energy", "Novo Nordisk", "TSMC", "Ørsted", "BYD")
SITES = ("docs.example.org", "shop.example.com", "wiki.example.net", "news.example.org")
GENOMES = ("GRCh38", "GRCm39", "TAIR10")

RATE_LIMIT = Failure("HTTP_429", "429 Too Many Requests: retry after 2 s")
PAYWALL = Failure("CONTENT_EMPTY", "the archive has the headline only")
BROKEN_PDF = Failure("PARSE_ERROR", "page 41: the stream object ends before its declared length")
NOT_THERE = Failure("HTTP_404", "404 Not Found")
BUSY = Failure("HTTP_503", "503 Service Unavailable, from the cache in front of the site")
SLOW = Failure("READ_TIMEOUT", "no byte within 10 s")
KILLED = Failure("OOM_KILLED", "the aligner was killed at 31.8 GiB; limit 32 GiB")
SINGULAR = Failure("MODEL_ERROR", "the design matrix is singular: every sample has the same condition")


def plan(job_id: str, trace_id: str, params: Mapping[str, Any]) -> Work | None:
    """The work of a run, or None where the fleet does not know the job."""
    maker = PLANS.get(job_id)
    return maker(Random(trace_id), params) if maker else None


# -- multi_strategy_financial_analysis


def financial_analysis(chance: Random, params: Mapping[str, Any]) -> Work:
    target, year = str(params.get("target", "Tesla")), int(params.get("year", 2024))
    wanted = params.get("strategies") or list(STRATEGIES)
    chosen = [name for name in wanted if name in STRATEGIES]
    strategies = tuple(STRATEGIES[name](chance, target, year) for name in chosen)
    return Work(
        name=f"{target}, fiscal {year}",
        job_id="multi_strategy_financial_analysis",
        kind=AGENT,
        seconds=3,
        says=("reading the question", f"splitting into {len(strategies)} strategies"),
        stages=(
            strategies,
            (
                Work(
                    "combine_strategies",
                    "combine_strategies",
                    GROUP_AGG,
                    seconds=8,
                    says=("normalising scores", "weighing the strategies", "writing the memo"),
                    output=f"s3://research/{year}/{_slug(target)}/memo.md",
                ),
            ),
        ),
        output=f"s3://research/{year}/{_slug(target)}/",
    )


def fundamental(chance: Random, target: str, year: int) -> Work:
    filings = [f"10-K {year}", f"10-K {year - 1}", *(f"10-Q {year} Q{q}" for q in (1, 2, 3))]
    filings += [f"8-K {year}-{month:02}" for month in range(1, 13)]
    fetches = tuple(
        Work(
            name,
            "fetch_filing",
            seconds=chance.uniform(4, 9),
            says=("asking the archive", f"{chance.randint(2, 18)}.{chance.randint(0, 9)} MB"),
            fails=(BROKEN_PDF,) if chance.random() < 0.06 else (),
            gives_up=True,
            output=f"s3://filings/{_slug(target)}/{_slug(name)}.pdf",
            params={"company": target, "filing": name},
        )
        for name in filings
    )
    return Work(
        "fundamental",
        "strategy",
        AGENT,
        seconds=2,
        says=("listing the filings of the year",),
        stages=(
            (Work("filings", "fetch_filing", stages=(fetches,), width=4),),
            (
                Work(
                    "extract_tables",
                    "extract_tables",
                    seconds=16,
                    says=("income statement", "balance sheet", "cash flow", "notes"),
                    output=f"s3://filings/{_slug(target)}/tables.parquet",
                ),
            ),
            (
                Work(
                    "score_fundamentals",
                    "score_fundamentals",
                    AGENT,
                    seconds=14,
                    says=("margins", "growth", "debt", "weighing"),
                    output="score:0.71",
                ),
            ),
        ),
        output="score:0.71",
    )


def sentiment(chance: Random, target: str, year: int) -> Work:
    papers = ("reuters", "bloomberg", "ft", "wire", "nikkei")
    names = [
        f"{papers[k % 5]}-{year}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}" for k in range(30)
    ]
    articles = tuple(
        Work(
            name,
            "fetch_article",
            seconds=chance.uniform(2.5, 6),
            says=("waiting for the archive", "reading"),
            fails=(RATE_LIMIT,) if name.startswith("reuters") or chance.random() < 0.05 else (),
            output=f"s3://news/{name}.html",
            params={"source": name.split("-")[0], "about": target},
        )
        for name in names
    )
    summaries = tuple(
        Work(
            name,
            "summarise_article",
            AGENT,
            seconds=chance.uniform(7, 15),
            says=("reading", "judging the tone", "writing two sentences"),
            fails=(PAYWALL,) if chance.random() < 0.1 else (),
            gives_up=True,
            output=f"tone:{chance.uniform(-1, 1):+.2f}",
        )
        for name in names[:14]
    )
    return Work(
        "sentiment",
        "strategy",
        AGENT,
        seconds=3,
        says=(f"searching for {target}", f"{len(articles)} articles chosen"),
        stages=(
            (Work("news", "fetch_article", stages=(articles,), width=5),),
            (
                Work(
                    "summarise_articles",
                    "summarise_article",
                    AGENT,
                    seconds=2,
                    says=("choosing what to read",),
                    stages=(summaries,),
                    width=4,
                ),
            ),
            (Work("weigh_sources", "weigh_sources", SINGLE_AGG, seconds=6, output="tone:+0.18"),),
        ),
        output="tone:+0.18",
    )


def technical(chance: Random, target: str, year: int) -> Work:
    months = tuple(
        Work(
            f"{year}-{month:02}",
            "load_prices",
            seconds=chance.uniform(2, 5),
            output=f"s3://prices/{_slug(target)}/{year}-{month:02}.parquet",
            params={"symbol": target, "month": f"{year}-{month:02}"},
        )
        for month in range(1, 13)
    )
    return Work(
        "technical",
        "strategy",
        AGENT,
        seconds=2,
        says=("choosing the signals",),
        stages=(
            (Work("prices", "load_prices", stages=(months,), width=3),),
            (
                Work(
                    "backtest",
                    "backtest",
                    seconds=55,
                    says=tuple(f"replaying {year}-{month:02}" for month in range(1, 13)),
                    output="sharpe:1.32",
                ),
                Work("intraday_signals", "intraday_signals", seconds=1, skipped="no intraday data"),
            ),
        ),
        output="sharpe:1.32",
    )


STRATEGIES: Mapping[str, Callable[[Random, str, int], Work]] = {
    "fundamental": fundamental,
    "sentiment": sentiment,
    "technical": technical,
}


# -- web_crawl

SECTIONS = (
    "guide",
    "api",
    "blog",
    "about",
    "download",
    "issues",
    "wiki",
    "news",
    "jobs",
    "forum",
    "press",
    "legal",
)


def web_crawl(chance: Random, params: Mapping[str, Any]) -> Work:
    """``pages`` tasks in all: the crawl itself, its sections, and pages that link to further pages."""
    site, size = str(params.get("site", SITES[0])), max(10, int(params.get("pages", 500)))
    count = min(len(SECTIONS), max(2, size // 40))
    left = size - 1 - count
    shares = [left // count + (k < left % count) for k in range(count)]
    sections = tuple(
        Work(
            f"/{name}/",
            "crawl_section",
            AGENT,
            seconds=1.5,
            says=("reading robots.txt", "reading the site map"),
            stages=(_pages(chance, site, f"/{name}/", share),),
            width=2,
        )
        for name, share in zip(SECTIONS, shares, strict=False)
    )
    return Work(
        f"crawl of {site}",
        "web_crawl",
        AGENT,
        seconds=2,
        says=(f"resolving {site}", "reading the front page"),
        stages=(sections,),
        width=5,
        output=f"s3://crawls/{site}/index.warc.gz",
    )


def _pages(chance: Random, site: str, below: str, share: int) -> tuple[Work, ...]:
    """``share`` pages: some of them index pages, which lead to the rest."""
    if share <= 8:
        return tuple(_page(chance, site, f"{below}{k + 1}") for k in range(share))
    indexes = min(5, share // 6)
    rest = share - indexes
    parts = [rest // indexes + (k < rest % indexes) for k in range(indexes)]
    names = [f"{below}{_word(chance)}-{k + 1}/" for k in range(indexes)]
    return tuple(_index(chance, site, name, part) for name, part in zip(names, parts, strict=True))


def _index(chance: Random, site: str, path: str, below: int) -> Work:
    return _page(chance, site, path, stages=(_pages(chance, site, path, below),), width=3)


def _page(chance: Random, site: str, path: str, **more: Any) -> Work:
    draw = chance.random()
    fails: tuple[Failure, ...] = ()
    if not more:
        fails = (NOT_THERE,) if draw < 0.04 else (BUSY,) if draw < 0.08 else (SLOW,) if draw < 0.1 else ()
    return Work(
        path,
        "fetch_page",
        seconds=chance.uniform(1.5, 5),
        says=(f"{chance.randint(4, 480)} kB",),
        fails=fails,
        gives_up=fails == (NOT_THERE,),
        skipped="robots.txt says no" if not more and draw > 0.97 else None,
        output=f"https://{site}{path}",
        **more,
    )


def _word(chance: Random) -> str:
    return chance.choice(("start", "more", "archive", "list", "index", "topics", "all", "latest"))


# -- rnaseq_workflow


def rnaseq(chance: Random, params: Mapping[str, Any]) -> Work:
    genome, count = str(params.get("genome", "GRCh38")), max(2, int(params.get("samples", 8)))
    conditions = ("control", "treated")
    names = [f"SRR{chance.randint(10**6, 10**7 - 1)}" for _ in range(count)]
    samples = tuple(_sample(chance, genome, name, k) for k, name in enumerate(names))
    return Work(
        f"{genome}, {count} samples, {' against '.join(conditions)}",
        "rnaseq_workflow",
        AGENT,
        seconds=2,
        says=("reading the sample sheet",),
        stages=(
            samples,
            (
                Work(
                    "multiqc",
                    "multiqc",
                    seconds=9,
                    says=("collecting reports",),
                    output="s3://rnaseq/multiqc.html",
                ),
            ),
            (
                Work(
                    "deseq2",
                    "deseq2",
                    seconds=18,
                    says=("size factors", "dispersion", "testing", "shrinking"),
                    critical=True,
                    fails=(SINGULAR,) if chance.random() < 0.25 else (),
                    gives_up=True,
                    output="s3://rnaseq/deseq2.tsv",
                ),
            ),
        ),
        width=4,
        output="s3://rnaseq/",
    )


def _sample(chance: Random, genome: str, name: str, ordinal: int) -> Work:
    millions = chance.randint(18, 62)
    return Work(
        name,
        "sample",
        silent=True,
        params={"accession": name, "genome": genome, "condition": "control" if ordinal % 2 else "treated"},
        stages=(
            (Work("fastqc", "fastqc", seconds=6, output=f"s3://rnaseq/{name}/fastqc.html"),),
            (
                Work(
                    "trim_reads",
                    "trim_reads",
                    seconds=8,
                    says=("adapters", "ends"),
                    output=f"{millions}M reads",
                ),
            ),
            (
                Work(
                    "align_reads",
                    "align_reads",
                    seconds=30,
                    says=tuple(f"{millions * part // 8}M of {millions}M reads" for part in range(1, 9)),
                    fails=(KILLED,) if chance.random() < 0.25 else (),
                    stride=0.9,  # the aligner looks up between chunks only
                    output=f"s3://rnaseq/{name}/aligned.bam",
                ),
            ),
            (Work("count_features", "count_features", seconds=7, output=f"s3://rnaseq/{name}/counts.tsv"),),
        ),
        width=1,
    )


# -- a part that is started by itself


def _alone(body: Mapping[str, Any]) -> Callable[[Random, Mapping[str, Any]], Work]:
    def maker(chance: Random, params: Mapping[str, Any]) -> Work:
        return Work(
            body["name"],
            body["id"],
            ActorType(body["actor_type"]),
            seconds=chance.uniform(10, 20),
            says=("working alone", "half way", "almost there"),
            output="demo:done",
        )

    return maker


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split())


PLANS: Mapping[str, Callable[[Random, Mapping[str, Any]], Work]] = {
    **{body["id"]: _alone(body) for body in PARTS},
    "multi_strategy_financial_analysis": financial_analysis,
    "web_crawl": web_crawl,
    "rnaseq_workflow": rnaseq,
}


def some_params(job_id: str, chance: Random) -> dict[str, Any]:
    """Parameters for a run that the fleet starts by itself; the rest is the definition's."""
    if job_id == "multi_strategy_financial_analysis":
        return {"target": chance.choice(TARGETS), "year": chance.randint(2019, 2025)}
    if job_id == "web_crawl":
        return {"site": chance.choice(SITES)}
    return {"genome": chance.choice(GENOMES), "samples": chance.randint(4, 10)}
