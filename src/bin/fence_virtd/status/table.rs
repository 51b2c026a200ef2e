//! Tables for people.

/// Maximum width of a column; a longer text moves the columns behind it in its row.
pub(super) const WIDTH_MAX: usize = 40;

/// Returns the lines of a table. Rows may be shorter than the first one; a last cell takes no part in the width
/// of its column.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| {
        let cells = rows.iter().filter(|row| at + 1 < row.len() || at == 0);
        cells.map(|row| row[at].chars().count()).max().unwrap_or(0).min(WIDTH_MAX)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [row(&["A", "B", "C"]), row(&["long", "1", "2"]), row(&["x", "a long last cell"])];
        assert_eq!(table(&rows), ["A     B  C", "long  1  2", "x     a long last cell"]);
        let wide = "x".repeat(WIDTH_MAX + 9);
        assert_eq!(table(&[row(&["A", "B"]), row(&[&wide, "1"])])[0].len(), WIDTH_MAX + 3);
        assert_eq!(table(&[]), [""; 0]);
    }
}
