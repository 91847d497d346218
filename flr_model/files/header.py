"""Which column is which: by the name the user gave, the name that was remembered, or the names flr knows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from flr_model import columns
from flr_model.errors import DataError
from flr_model.files.csvfile import CsvFile
from flr_model.files.reading import FLAGS, Reading
from flr_model.files.tables import Parts, Table, sample
from flr_model.files.times import AUTO, AmbiguousTimesError, TimeRule, looks_timed


def find_columns(
    table: Table,
    required: Sequence[str],
    optional: Sequence[str] = (),
    reading: Reading | None = None,
    *,
    elsewhere: Sequence[str] = (),
) -> dict[str, str]:
    """Find the columns of a table.

    Args:
        table: the file.
        required: columns (as `flr_model.columns` names them) that must be there.
        optional: columns that may be there; one the user named must be.
        reading: the user's names, and those that were remembered.
        elsewhere: columns whose given name may be that of another file; other names serve where it is not here.

    Returns:
        Name in the file for each column that was found.

    Raises:
        DataError: if columns are missing or there twice, all of them in one message, with the nearest names.
    """
    reading = reading or Reading()
    found, missing, problems = {}, [], []
    for column in (*required, *optional):
        name = reading.names.get(column)
        wanted = [] if name is None else [name, name.split(":")[0]]
        if name is None or column in elsewhere:
            wanted += [
                *([reading.remembered[column]] if column in reading.remembered else []),
                *columns.ALIASES[column],
            ]
        match = _first(table, wanted)
        if match is None:
            if name is not None or column in required:
                missing.append(column)
                problems.append(_missing(column, name, table))
            continue
        found[column] = match
        if name is None and occurs_again(table, match):
            problems.append(
                f"has several columns named {match!r}, and {FLAGS.get(column, 'nothing')} does not say which"
            )
    if problems:
        hint = _way_out(missing, required, table) if missing else "give each column a name of its own"
        raise DataError(f"{table.path} {'; '.join(problems)}. {_columns_of(table)}", hint=hint)
    return found


def has_column(table: Table, name: str) -> bool:
    """Say whether a table has a column of a name, as names are compared."""
    return _first(table, [name]) is not None


def find_rule(table: Table, found: dict[str, str], column: str, reading: Reading) -> TimeRule | None:
    """Find how the times of a column are read; None where there is no such column.

    Raises:
        DataError: if they can be read in more than one way, or look like none while those of another column do.
    """
    name = found.get(column)
    if name is None:
        return None
    known = reading.format_of(column, name)
    if known:
        return TimeRule(known)
    try:
        rule = TimeRule.find(row.cells[0] for row in table.rows([name]) if row.cells is not None)
    except AmbiguousTimesError as error:
        raise ambiguous(table, name, error) from None
    if column in reading.names or rule.format != AUTO or any(looks_timed([cell]) for cell in sample(table, name)):
        return rule
    if other := times_elsewhere(table):
        raise DataError(
            f"{table.path}: the column {name!r} has a name of times, but {other!r} looks like them",
            hint=f"say which with {FLAGS[column]} {other}",
        )
    return rule


def ambiguous(table: Table, name: str, error: AmbiguousTimesError) -> DataError:
    """Name the flag that settles how the times of a column are meant."""
    return DataError(
        f"{table.path}: {name}: {error}",
        hint="say which with --time-format: day-first, month-first, yyyymmdd, excel, seconds, or a pattern",
    )


def times_elsewhere(table: Table) -> str | None:
    """Return the name of a column whose cells look like times, for messages; None if there is none."""
    return next((name for name in table.names[:50] if looks_timed(sample(table, name, 20))), None)


def occurs_again(table: Table, name: str) -> bool:
    """Say whether a table has another column of the same name, as names are compared."""
    spelled = [columns.normalized(other) for other in table.names]
    numbered = any(f"{name}.{place + 1}" == other for place, other in enumerate(table.names))
    return numbered or spelled.count(columns.normalized(name)) > 1


def _first(table: Table, wanted: Sequence[str]) -> str | None:
    spelled = {columns.normalized(name): name for name in reversed(table.names)}
    for name in wanted:
        if name in table.names:
            return name
        if columns.normalized(name) in spelled:
            return spelled[columns.normalized(name)]
    return None


def _missing(column: str, name: str | None, table: Table) -> str:
    if name is not None:
        near = difflib.get_close_matches(name, table.names, n=1)
        return f"has no column {name!r} ({FLAGS[column]})" + (f", did you mean {near[0]!r}?" if near else "")
    if column == columns.HISTORY:  # what resembles it is as likely a list of ratings or titles
        return f"has no {column} column (such as {columns.HISTORY}_item_id)"
    spelled = {columns.normalized(known): known for known in table.names}
    near = difflib.get_close_matches(columns.normalized(column), spelled, n=1) or difflib.get_close_matches(
        column.split("_")[0], spelled, n=1
    )
    return f"has no {column} column" + (f", did you mean {spelled[near[0]]!r}?" if near else "")


def _columns_of(table: Table) -> str:
    names = ", ".join(map(repr, table.names[:20])) + (", ..." if len(table.names) > 20 else "")
    if _text(table) and len(table.names) == 1:
        return (
            f"It has one column, {names} ({table.about}): the delimiter may be none of comma, tab, semicolon, | and ::"
        )
    return f"Its columns are {names} ({table.about})"


def _way_out(missing: Sequence[str], required: Sequence[str], table: Table) -> str:
    text = _text(table)
    if text and len(table.names) == 1:
        return "name the delimiter with --delimiter, or write the file with commas"
    if text and not text.dialect.header:
        flags = [flag for column, flag in FLAGS.items() if column in (*required, *missing)]
        numbered = " ".join(f"{flag} {number}" for number, flag in enumerate(flags, start=1))
        return f"add a header line, or name columns by number, for instance {numbered}"
    named = f"name the column with {', '.join(FLAGS[column] for column in missing)}"
    return f"{named}; if the first line is a row, number them" if text else named


def _text(table: Table) -> CsvFile | None:
    first = table.parts[0] if isinstance(table, Parts) else table
    return first if isinstance(first, CsvFile) else None
