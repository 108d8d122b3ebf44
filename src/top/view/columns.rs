//! The columns of the table, and which of them there is room for.

use crate::top::rows::By;

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    State,
    Count,
    Cpu,
    CpuGraph,
    Mem,
    Rss,
    MemGraph,
    Uptime,
    Restarts,
    Note,
}

/// A column that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub cell: Cell,
    pub title: &'static str,
    pub width: u16,
    pub right: bool,
    /// The order it stands for.
    pub by: Option<By>,
}

/// All columns from left to right; the number says which is left out last.
const COLUMNS: [(u8, Column); 11] = [
    (0, column(Cell::Name, "NAME", 11, false, Some(By::Name))),
    (3, column(Cell::State, "STATE", 8, false, None)),
    (2, column(Cell::Count, "PROCS", 7, true, None)),
    (1, column(Cell::Cpu, "CPU%", 6, true, Some(By::Cpu))),
    (7, column(Cell::CpuGraph, "", 10, false, None)),
    (6, column(Cell::Mem, "MEM%", 5, true, None)),
    (4, column(Cell::Rss, "MEMORY", 6, true, Some(By::Memory))),
    (10, column(Cell::MemGraph, "", 10, false, None)),
    (5, column(Cell::Uptime, "UPTIME", 6, true, Some(By::Uptime))),
    (
        8,
        column(Cell::Restarts, "RESTARTS", 8, true, Some(By::Restarts)),
    ),
    (9, column(Cell::Note, "NOTE", 16, false, None)),
];

const fn column(
    cell: Cell,
    title: &'static str,
    width: u16,
    right: bool,
    by: Option<By>,
) -> Column {
    Column {
        cell,
        title,
        width,
        right,
        by,
    }
}

/// Columns for so much room, where the longest name has `name` columns.
pub fn fitting(width: u16, name: u16) -> Vec<Column> {
    let mut order: Vec<&(u8, Column)> = COLUMNS.iter().collect();
    order.sort_by_key(|(rank, _)| *rank);
    let mut left = width;
    let mut last = None;
    for (rank, column) in order {
        // one column is free before each but the first
        let needed = column.width + u16::from(last.is_some());
        if needed > left && last.is_some() {
            break;
        }
        left = left.saturating_sub(needed);
        last = Some(*rank);
    }
    let mut columns: Vec<Column> = COLUMNS
        .iter()
        .filter(|(rank, _)| Some(*rank) <= last)
        .map(|(_, column)| *column)
        .collect();
    let mut widen = |cell: Cell, most: u16| {
        if let Some(column) = columns.iter_mut().find(|column| column.cell == cell) {
            let more = left.min(most.saturating_sub(column.width));
            column.width += more;
            left -= more;
        }
    };
    widen(Cell::Name, name.clamp(11, 32));
    widen(Cell::Note, 30);
    widen(Cell::CpuGraph, 20);
    widen(Cell::MemGraph, 20);
    widen(Cell::Note, u16::MAX);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_one_after_the_other_as_it_gets_narrow() {
        let titles = |width, name| {
            let columns = fitting(width, name);
            let used: u16 = columns.iter().map(|column| column.width + 1).sum();
            assert!(used <= width + 1 || width < 11, "{width}: {used}");
            let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
            titles.join(" ")
        };
        assert_eq!(titles(0, 5), "NAME");
        assert_eq!(titles(20, 5), "NAME CPU%");
        assert_eq!(titles(40, 5), "NAME STATE PROCS CPU%");
        assert_eq!(
            titles(80, 5),
            "NAME STATE PROCS CPU%  MEM% MEMORY UPTIME RESTARTS"
        );
        assert_eq!(
            titles(120, 5),
            "NAME STATE PROCS CPU%  MEM% MEMORY  UPTIME RESTARTS NOTE"
        );
        let width = |columns: &[Column], cell| {
            let found = columns.iter().find(|column| column.cell == cell);
            found.map(|column| column.width)
        };
        let wide = fitting(200, 90);
        assert_eq!(width(&wide, Cell::Name), Some(32));
        assert_eq!(width(&wide, Cell::CpuGraph), Some(20));
        assert!(width(&wide, Cell::Note) > Some(40));
    }
}
