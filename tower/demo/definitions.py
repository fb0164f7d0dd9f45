"""The definitions that the demo fleet works for. Plain bodies of ``POST definitions/``."""

from __future__ import annotations

from typing import Any


def agent(id: str, name: str, description: str, **more: Any) -> dict[str, Any]:
    return definition(id, name, description, actor_type="AGENT", **more)


def definition(id: str, name: str, description: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "name": name,
        "actor_type": "EXECUTION",
        "code_ref": f"demo://fleet/{id}",
        "description": description,
        "cancel_grace_sec": 10,
        **more,
    }


#: What a person starts; the fleet keeps some of each on the screen.
RUNS: tuple[dict[str, Any], ...] = (
    agent(
        "multi_strategy_financial_analysis",
        "Multi-strategy financial analysis",
        "Looks at a company's year in three ways, fundamental, sentiment and technical, and weighs them.",
        default_params={
            "target": "Tesla",
            "year": 2024,
            "strategies": ["fundamental", "sentiment", "technical"],
        },
        params_schema={
            "type": "object",
            "required": ["target", "year", "strategies"],
            "additionalProperties": False,
            "properties": {
                "target": {
                    "type": "string",
                    "title": "Target",
                    "description": "The company as it is written in its filings",
                    "minLength": 1,
                    "maxLength": 80,
                },
                "year": {"type": "integer", "title": "Fiscal year", "minimum": 1994, "maximum": 2026},
                "strategies": {
                    "type": "array",
                    "title": "Strategies",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"enum": ["fundamental", "sentiment", "technical"]},
                },
            },
        },
    ),
    agent(
        "web_crawl",
        "Web crawl",
        "Follows the links of a site section by section; pages are registered as they are found.",
        default_params={"site": "docs.example.org", "pages": 500},
        params_schema={
            "type": "object",
            "required": ["site", "pages"],
            "additionalProperties": False,
            "properties": {
                "site": {"type": "string", "title": "Site", "minLength": 1, "maxLength": 120},
                "pages": {
                    "type": "integer",
                    "title": "Pages",
                    "description": "How many tasks the whole tree has, this run included",
                    "minimum": 10,
                    "maximum": 2000,
                },
            },
        },
    ),
    agent(
        "rnaseq_workflow",
        "RNA-seq workflow",
        "Checks, trims, aligns and counts each sample, then tests for differential expression.",
        default_params={"genome": "GRCh38", "samples": 8},
        params_schema={
            "type": "object",
            "required": ["genome", "samples"],
            "additionalProperties": False,
            "properties": {
                "genome": {"title": "Genome", "enum": ["GRCh38", "GRCm39", "TAIR10"]},
                "samples": {"type": "integer", "title": "Samples", "minimum": 2, "maximum": 48},
            },
        },
    ),
)

#: What these split into. One that is started by itself is worked on too.
PARTS: tuple[dict[str, Any], ...] = (
    agent("strategy", "Strategy", "One way of looking at a company."),
    definition("fetch_filing", "Fetch filing", "Downloads one filing from the regulator's archive."),
    definition("extract_tables", "Extract tables", "Finds the statements in the filings."),
    agent("score_fundamentals", "Score fundamentals", "Weighs margins, growth and debt."),
    definition("fetch_article", "Fetch article", "Loads one article from a news archive."),
    agent("summarise_article", "Summarise article", "Reads one article and judges its tone."),
    definition("weigh_sources", "Weigh sources", "Weighs what the articles say.", actor_type="SINGLE_AGG"),
    definition("load_prices", "Load prices", "Loads one month of daily prices."),
    definition("backtest", "Backtest", "Replays the year against the signals."),
    definition("intraday_signals", "Intraday signals", "Looks for patterns within a day."),
    definition("combine_strategies", "Combine strategies", "Weighs the strategies.", actor_type="GROUP_AGG"),
    agent("crawl_section", "Crawl section", "Follows the links of one section of a site."),
    definition("fetch_page", "Fetch page", "Fetches one page and reads its links."),
    definition("sample", "Sample", "All steps of one sample."),
    definition("fastqc", "FastQC", "Quality of the raw reads."),
    definition("trim_reads", "Trim reads", "Cuts adapters and bad ends."),
    definition("align_reads", "Align reads", "Aligns reads to the genome.", cancel_grace_sec=20),
    definition("count_features", "Count features", "Counts reads per gene."),
    definition("multiqc", "MultiQC", "One report over all samples."),
    definition("deseq2", "DESeq2", "Tests for differential expression."),
)

DEFINITIONS = RUNS + PARTS
