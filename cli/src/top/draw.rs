//! Drawing: a title, three tables that share what room there is, a line of keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::app::{App, Overlay, Pane};
use super::details;
use super::picture::{is_bad, is_refused, is_unwell};
use super::rows::{self, Cells};

/// A table's title and head.
const ABOVE: u16 = 2;
/// The fewest lines of a table: title, head, a row.
const LEAST: u16 = 3;
/// Room for a flexible column in which a name can still be told.
const NARROWEST: u16 = 10;

pub fn draw(frame: &mut Frame, app: &mut App) {
    let area = frame.area();
    let head = head_lines(app, area.width);
    let [above, tables, below] = Layout::vertical([
        Constraint::Length(u16::try_from(head.len()).unwrap_or(u16::MAX)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), above);
    draw_tables(frame, app, tables);
    frame.render_widget(keys(app), below);
    match app.overlay {
        Overlay::None => {}
        Overlay::Details => over(frame, area, &format!(" {} ", app.focus.word()), details::lines(app)),
        Overlay::Help => over(frame, area, " keys ", help(app)),
    }
}

/// Colours where the terminal may have them.
fn red() -> Style {
    coloured(Color::Red).add_modifier(Modifier::BOLD)
}

fn yellow() -> Style {
    coloured(Color::Yellow)
}

fn green() -> Style {
    coloured(Color::Green)
}

fn coloured(colour: Color) -> Style {
    // See https://no-color.org; what is bold stays so.
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return Style::new();
    }
    Style::new().fg(colour)
}

fn head_lines(app: &App, width: u16) -> Vec<Line<'static>> {
    let picture = &app.picture;
    let (synced, all) = (picture.in_sync(), picture.proxies.len());
    let state = if synced == all { green() } else { red() };
    let mut words = vec![
        Span::styled(app.title.clone(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(format!("{synced} of {all} in sync"), state),
        Span::raw(format!("  {:.1}/s", picture.rate())),
    ];
    if app.is_paused {
        words.push(Span::styled("  paused", yellow()));
    }
    let troubles = app.fallen.iter().chain(&picture.troubles);
    let cut = |text: &String| shortened(text, width);
    std::iter::once(Line::from(words))
        .chain(troubles.map(|trouble| Line::styled(cut(trouble), red())))
        .collect()
}

fn draw_tables(frame: &mut Frame, app: &App, area: Rect) {
    let (edges, proxies, failures) = (app.edges(), app.proxies(), app.failures());
    let tables =
        [rows::edges(&edges, area.width), rows::proxies(&proxies, area.width), rows::failures(&failures)];
    let wanted = tables.each_ref().map(|table| ABOVE + rows_of(table).max(1));
    let heights = shares(area.height, wanted, app.focus);
    let used: u16 = heights.iter().sum();
    let hints = u16::try_from(app.hints.len()).unwrap_or(u16::MAX);
    let mut top = area.y;
    for (index, pane) in Pane::ALL.into_iter().enumerate() {
        let style = |row: usize| match pane {
            Pane::Edges if is_bad(edges[row]) => red(),
            Pane::Edges if is_refused(edges[row]) => yellow(),
            Pane::Proxies if is_unwell(proxies[row]) => red(),
            Pane::Edges | Pane::Proxies | Pane::Failures => Style::new(),
        };
        let place = Rect { y: top, height: heights[index], ..area };
        draw_table(frame, app, pane, &tables[index], place, style);
        top += heights[index];
    }
    if area.height > used + hints {
        let lines: Vec<Line> = app.hints.iter().map(|hint| Line::from(hint.clone())).collect();
        frame.render_widget(
            Paragraph::new(lines),
            Rect { y: top + 1, height: area.height - used - 1, ..area },
        );
    }
}

fn rows_of(cells: &Cells) -> u16 {
    u16::try_from(cells.rows.len()).unwrap_or(u16::MAX - ABOVE)
}

/// Each table gets what it wants where there is room for all. Else each gets a part, and what others leave goes to the one
/// that the person looks at.
fn shares(height: u16, wanted: [u16; 3], focus: Pane) -> [u16; 3] {
    let mut given = wanted.map(|wanted| wanted.min(LEAST));
    let order = [focus, Pane::Edges, Pane::Proxies, Pane::Failures];
    for pane in order {
        let index = pane.index();
        let left = height.saturating_sub(given.iter().sum());
        // The first takes half of what is left at most, so that the others are more than their heads.
        let most = if pane == focus { left.div_ceil(2).max(left.saturating_sub(2 * LEAST)) } else { left };
        given[index] += most.min(wanted[index] - given[index]);
    }
    // What is still left, the one in focus takes.
    let left = height.saturating_sub(given.iter().sum());
    let index = focus.index();
    given[index] += left.min(wanted[index] - given[index]);
    // A window that is lower than three heads shows from above what it can.
    let mut room = height;
    given.map(|one| {
        let one = one.min(room);
        room -= one;
        one
    })
}

fn draw_table(
    frame: &mut Frame,
    app: &App,
    pane: Pane,
    cells: &Cells,
    area: Rect,
    style: impl Fn(usize) -> Style,
) {
    if area.height == 0 {
        return;
    }
    let [title, table] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(heading(app, pane, cells), title);
    let widths = widths(cells, area.width);
    let cut = |row: &[String]| -> Vec<String> {
        row.iter().zip(&widths).map(|(cell, width)| shortened(cell, *width)).collect()
    };
    let is_chosen = app.focus == pane;
    let drawn = cells.rows.iter().enumerate().map(|(index, row)| Row::new(cut(row)).style(style(index)));
    let head = Row::new(cells.head.clone()).style(Style::new().add_modifier(Modifier::DIM));
    let highlight = if is_chosen { Modifier::REVERSED } else { Modifier::empty() };
    let drawn = Table::new(drawn, widths.iter().map(|width| Constraint::Length(*width)))
        .header(head)
        .column_spacing(GAP)
        .row_highlight_style(Style::new().add_modifier(highlight));
    let mut state = TableState::new().with_selected(app.chosen(pane));
    frame.render_stateful_widget(drawn, table, &mut state);
}

fn heading(app: &App, pane: Pane, cells: &Cells) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let style = if app.focus == pane { bold.add_modifier(Modifier::UNDERLINED) } else { bold };
    let nothing = match pane {
        _ if !cells.rows.is_empty() => "",
        _ if !app.filter.is_empty() => "  nothing that the filter leaves",
        Pane::Edges => "  no traffic yet",
        Pane::Proxies => "  none has joined",
        Pane::Failures => "  none in the last ten minutes",
    };
    Line::from(vec![
        Span::styled(pane.word(), style),
        Span::raw(format!(" {}", cells.rows.len())),
        Span::styled(nothing, Style::new().add_modifier(Modifier::DIM)),
    ])
}

/// How many spaces stand between two columns.
const GAP: u16 = 1;

/// As wide as the widest cell; where that is too much, the flexible columns give way, and the last one takes what is left.
fn widths(cells: &Cells, width: u16) -> Vec<u16> {
    let length = |text: &str| u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    let mut widths: Vec<u16> = cells.head.iter().map(|head| length(head)).collect();
    for row in &cells.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    let gaps = GAP * u16::try_from(widths.len().saturating_sub(1)).unwrap_or_default();
    let sum = |widths: &[u16]| widths.iter().fold(gaps, |sum, width| sum.saturating_add(*width));
    while sum(&widths) > width {
        let flexible = widths.iter_mut().take(cells.flexible).filter(|width| **width > NARROWEST).max();
        match flexible {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    let over = sum(&widths).saturating_sub(width);
    if let Some(last) = widths.last_mut() {
        *last = last.saturating_sub(over).max(4);
    }
    widths
}

/// Cut to a width, and visibly so.
fn shortened(text: &str, width: u16) -> String {
    if text.chars().count() <= usize::from(width) {
        return text.to_owned();
    }
    let kept: String = text.chars().take(usize::from(width).saturating_sub(1)).collect();
    format!("{kept}…")
}

fn keys(app: &App) -> Line<'static> {
    if app.is_typing {
        return Line::from(format!("only rows with: {}▏ (Enter keeps, Esc clears)", app.filter));
    }
    let filter = if app.filter.is_empty() { String::new() } else { format!(" ({})", app.filter) };
    let words = format!(
        "q quit  Tab table  Enter details  s sort ({})  / filter{filter}  p pause  ? help",
        app.sort.word()
    );
    Line::styled(words, Style::new().add_modifier(Modifier::DIM))
}

fn help(app: &App) -> Vec<Line<'static>> {
    let keys = [
        "q, Ctrl-C      end",
        "Tab, ← →       another table",
        "↑ ↓, j k       another row; PgUp, PgDn, Home, End",
        "Enter          all that is known of the row",
        "s              sort by name, trouble, rate, p99",
        "/              only rows with what is typed; Esc shows all again",
        "space, p       hold the picture, and let it go on",
        "",
        "RATE, SUCCESS, DENIED and latencies are of the last 15 to 20 s.",
    ];
    let hints = app.hints.iter().map(|hint| Line::from(hint.clone()));
    let keys = keys.into_iter().map(Line::from);
    keys.chain((!app.hints.is_empty()).then(Line::default)).chain(hints).collect()
}

/// A frame over the middle, as large as its words and no larger than the window.
fn over(frame: &mut Frame, area: Rect, title: &str, lines: Vec<Line<'static>>) {
    let widest = lines.iter().map(Line::width).max().unwrap_or_default();
    let width = u16::try_from(widest + 4).unwrap_or(u16::MAX).clamp(30, area.width.max(30)).min(area.width);
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let wrapped: usize = lines.iter().map(|line| line.width().div_ceil(inner).max(1)).sum();
    let height = u16::try_from(wrapped + 2).unwrap_or(u16::MAX).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(title.to_owned()).padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}

#[cfg(test)]
mod tests;
