//! What the person has chosen: which table, which row, which order; and what keys change of it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use weft_api::rest::{Edge, ProxyStatus};

use super::failure_group::FailureGroup;
use super::picture::{Picture, is_bad, is_refused, is_unwell};

/// One of the three tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pane {
    Edges,
    Proxies,
    Failures,
}

impl Pane {
    pub const ALL: [Self; 3] = [Self::Edges, Self::Proxies, Self::Failures];

    pub fn word(self) -> &'static str {
        match self {
            Self::Edges => "edges",
            Self::Proxies => "proxies",
            Self::Failures => "failures",
        }
    }

    /// Its place in [`Pane::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Edges => 0,
            Self::Proxies => 1,
            Self::Failures => 2,
        }
    }
}

/// In which order edges and proxies stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortBy {
    /// By name: rows stay where they are.
    Name,
    /// What is bad first, then what is refused.
    Trouble,
    /// The busiest first, by requests a second.
    Rate,
    /// The slowest first, by the 99th percentile.
    Latency,
}

impl SortBy {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Trouble,
            Self::Trouble => Self::Rate,
            Self::Rate => Self::Latency,
            Self::Latency => Self::Name,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Trouble => "trouble",
            Self::Rate => "rate",
            Self::Latency => "p99",
        }
    }
}

/// What lies over the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overlay {
    None,
    /// All that is known of the chosen row.
    Details,
    Help,
}

/// What a key led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyOutcome {
    Stay,
    Quit,
}

/// The state of the screen.
pub struct App {
    pub title: String,
    pub hints: Vec<String>,
    /// Words about processes of one's own that have ended.
    pub fallen: Vec<String>,
    pub picture: Picture,
    pub focus: Pane,
    pub sort: SortBy,
    /// Only rows that contain it.
    pub filter: String,
    /// Whether keys go into the filter.
    pub is_typing: bool,
    /// Whether the picture stands still.
    pub is_paused: bool,
    pub overlay: Overlay,
    /// The chosen row of each table.
    chosen: [usize; 3],
}

impl App {
    pub fn new(title: String, hints: Vec<String>) -> Self {
        Self {
            title,
            hints,
            fallen: Vec::new(),
            picture: Picture::default(),
            focus: Pane::Edges,
            sort: SortBy::Name,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            overlay: Overlay::None,
            chosen: [0; 3],
        }
    }

    /// The next picture. Where the API is away, the one before stays, with the reason.
    pub fn take(&mut self, picture: Picture) {
        if !self.is_paused {
            self.picture = picture.after(std::mem::take(&mut self.picture));
        }
    }

    /// Edges in their order, those that the filter leaves.
    pub fn edges(&self) -> Vec<&Edge> {
        let named = |edge: &&Edge| {
            let words = format!("{} {}:{}", edge.source, edge.destination, edge.port);
            words.contains(&self.filter)
        };
        let mut edges: Vec<&Edge> = self.picture.edges.iter().filter(named).collect();
        let falling = |one: f64, other: f64| other.total_cmp(&one);
        match self.sort {
            SortBy::Name => {}
            SortBy::Trouble => edges.sort_by_key(|edge| (!is_bad(edge), !is_refused(edge))),
            SortBy::Rate => edges.sort_by(|one, other| falling(one.rate, other.rate)),
            SortBy::Latency => edges.sort_by(|one, other| {
                falling(one.p99_ms.unwrap_or_default(), other.p99_ms.unwrap_or_default())
            }),
        }
        edges
    }

    /// Proxies in their order, those that the filter leaves.
    pub fn proxies(&self) -> Vec<&ProxyStatus> {
        let named = |proxy: &&ProxyStatus| format!("{} {}", proxy.id, proxy.service).contains(&self.filter);
        let mut proxies: Vec<&ProxyStatus> = self.picture.proxies.iter().filter(named).collect();
        match self.sort {
            SortBy::Trouble => proxies.sort_by_key(|proxy| !is_unwell(proxy)),
            SortBy::Name | SortBy::Rate | SortBy::Latency => {}
        }
        proxies
    }

    /// Failures, those that the filter leaves.
    pub fn failures(&self) -> Vec<&FailureGroup> {
        let named = |group: &&FailureGroup| {
            let record = &group.newest;
            let end = |service: &Option<String>| service.clone().unwrap_or_default();
            format!("{} {} {}", end(&record.source), end(&record.destination), record.reason)
                .contains(&self.filter)
        };
        let mut failures: Vec<&FailureGroup> = self.picture.failures.iter().filter(named).collect();
        match self.sort {
            // The newest first would have rows change places each second.
            SortBy::Name => failures.sort_by_key(|group| {
                let record = &group.newest;
                (&record.source, &record.destination, record.status, &record.reason)
            }),
            SortBy::Trouble | SortBy::Rate | SortBy::Latency => {}
        }
        failures
    }

    fn count(&self, pane: Pane) -> usize {
        match pane {
            Pane::Edges => self.edges().len(),
            Pane::Proxies => self.proxies().len(),
            Pane::Failures => self.failures().len(),
        }
    }

    /// The chosen row of a table; none of an empty one.
    pub fn chosen(&self, pane: Pane) -> Option<usize> {
        let count = self.count(pane);
        (count > 0).then(|| self.chosen[pane.index()].min(count - 1))
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) -> KeyOutcome {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return KeyOutcome::Quit;
        }
        if self.is_typing {
            self.type_filter(key.code);
            return KeyOutcome::Stay;
        }
        match key.code {
            KeyCode::Char('q') if self.overlay == Overlay::None => return KeyOutcome::Quit,
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter if self.overlay != Overlay::None => {
                self.overlay = Overlay::None;
            }
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter if self.chosen(self.focus).is_some() => self.overlay = Overlay::Details,
            KeyCode::Char('?' | 'h') => self.overlay = Overlay::Help,
            KeyCode::Tab | KeyCode::Right => self.move_focus(1),
            KeyCode::BackTab | KeyCode::Left => self.move_focus(2),
            KeyCode::Down | KeyCode::Char('j') => self.choose(|chosen, _| chosen + 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|chosen, _| chosen.saturating_sub(1)),
            KeyCode::PageDown => self.choose(|chosen, _| chosen + 10),
            KeyCode::PageUp => self.choose(|chosen, _| chosen.saturating_sub(10)),
            KeyCode::Home => self.choose(|_, _| 0),
            KeyCode::End => self.choose(|_, last| last),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            _ => {}
        }
        KeyOutcome::Stay
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn move_focus(&mut self, by: usize) {
        self.focus = Pane::ALL[(self.focus.index() + by) % Pane::ALL.len()];
    }

    fn choose(&mut self, to: impl Fn(usize, usize) -> usize) {
        let Some(chosen) = self.chosen(self.focus) else { return };
        let last = self.count(self.focus) - 1;
        self.chosen[self.focus.index()] = to(chosen, last).min(last);
    }
}

#[cfg(test)]
mod tests {
    use weft_api::rest::EdgeState;

    use super::*;

    fn edge(source: &str, rate: f64, state: EdgeState) -> Edge {
        Edge { source: source.to_owned(), rate, state, ..Edge::default() }
    }

    fn app() -> App {
        let mut app = App::new("weft top".to_owned(), Vec::new());
        let edges = vec![
            edge("shop/a", 1.0, EdgeState::Flowing),
            edge("shop/b", 9.0, EdgeState::Flowing),
            edge("shop/c", 2.0, EdgeState::Failing),
        ];
        app.take(Picture { edges, is_answered: true, ..Picture::default() });
        app
    }

    fn press(app: &mut App, codes: &[KeyCode]) {
        for code in codes {
            app.key(KeyEvent::from(*code));
        }
    }

    fn sources(app: &App) -> Vec<&str> {
        app.edges().iter().map(|edge| edge.source.as_str()).collect()
    }

    #[test]
    fn sorts_by_what_a_person_looks_for() {
        let mut app = app();
        assert_eq!(sources(&app), ["shop/a", "shop/b", "shop/c"]);
        press(&mut app, &[KeyCode::Char('s')]);
        assert_eq!(sources(&app), ["shop/c", "shop/a", "shop/b"]);
        press(&mut app, &[KeyCode::Char('s')]);
        assert_eq!(sources(&app), ["shop/b", "shop/c", "shop/a"]);
    }

    #[test]
    fn choice_stays_within_what_is_there() {
        let mut app = app();
        press(&mut app, &[KeyCode::End, KeyCode::Down, KeyCode::PageDown]);
        assert_eq!(app.chosen(Pane::Edges), Some(2));
        press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('b')]);
        assert_eq!((sources(&app), app.chosen(Pane::Edges)), (vec!["shop/b"], Some(0)));
        press(&mut app, &[KeyCode::Char('q'), KeyCode::Enter]);
        assert_eq!(
            (app.filter.as_str(), app.chosen(Pane::Edges)),
            ("bq", None),
            "letters go into the filter"
        );
        press(&mut app, &[KeyCode::Esc, KeyCode::Tab, KeyCode::Enter]);
        assert_eq!((app.focus, app.overlay), (Pane::Proxies, Overlay::None), "nothing there to look at");
    }

    #[test]
    fn picture_stays_while_the_api_is_away_and_while_it_is_paused() {
        let mut app = app();
        app.take(Picture { troubles: vec!["away".to_owned()], ..Picture::default() });
        assert_eq!((app.edges().len(), app.picture.troubles.len()), (3, 1));
        press(&mut app, &[KeyCode::Char(' ')]);
        app.take(Picture { is_answered: true, ..Picture::default() });
        assert_eq!(app.edges().len(), 3);
    }

    #[test]
    fn ctrl_c_ends_it_even_while_typing() {
        let mut app = app();
        press(&mut app, &[KeyCode::Char('/')]);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(ctrl_c), KeyOutcome::Quit);
    }
}
