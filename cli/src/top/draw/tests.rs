//! Whole screens, as a person sees them.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use weft_api::rest::{Edge, EdgeState, ProxyStatus, RequestRecord, Sync};

use super::super::app::App;
use super::super::failure_group::grouped;
use super::super::picture::Picture;
use super::*;

fn shop(edges: usize) -> Picture {
    let edge = |index: usize| Edge {
        source: "shop/web".to_owned(),
        destination: format!("shop/service-{index:02}"),
        port: "http".to_owned(),
        state: if index == 1 { EdgeState::Failing } else { EdgeState::Flowing },
        rate: 12.5,
        success: Some(0.5),
        denied: Some(0.0),
        p50_ms: Some(1.2),
        p99_ms: Some(13.9),
        mtls: true,
        ..Edge::default()
    };
    let proxy = |index: usize| ProxyStatus {
        id: format!("shop/cart-{index}"),
        service: "shop/cart".to_owned(),
        proxy: "Weft".to_owned(),
        sync: if index == 2 { Sync::Disconnected } else { Sync::Synced },
        health: "Healthy".to_owned(),
        ..ProxyStatus::default()
    };
    let failure = RequestRecord {
        source: Some("shop/load".to_owned()),
        destination: Some("shop/payments".to_owned()),
        status: Some(403),
        reason: "shop/payments-v1: rule shop/payments/web denies this to spiffe://mesh.local/ns/shop"
            .to_owned(),
        ..RequestRecord::default()
    };
    Picture {
        edges: (0..edges).map(edge).collect(),
        proxies: (0..6).map(proxy).collect(),
        failures: grouped(vec![failure.clone(), failure]),
        is_answered: true,
        ..Picture::default()
    }
}

fn app(picture: Picture) -> App {
    let mut app =
        App::new("Weft: a local mesh. Ctrl-C ends it.".to_owned(), vec!["try: weft ui".to_owned(); 3]);
    app.take(picture);
    app
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..height).map(|row| line(row).trim_end().to_owned()).collect()
}

fn count(lines: &[String], words: &str) -> usize {
    lines.iter().filter(|line| line.contains(words)).count()
}

#[test]
fn the_local_mesh_fits_a_small_terminal() {
    let lines = screen(&mut app(shop(6)), 80, 24);
    assert!(lines[0].contains("5 of 6 in sync") && lines[0].contains("75.0/s"), "{lines:#?}");
    assert_eq!((count(&lines, "shop/service-"), count(&lines, "shop/cart-")), (6, 6), "{lines:#?}");
    assert_eq!((count(&lines, "2x"), count(&lines, "q quit")), (1, 1), "{lines:#?}");
    assert_eq!(count(&lines, "try: weft ui"), 0, "no room for hints");
}

#[test]
fn more_room_shows_more() {
    let lines = screen(&mut app(shop(6)), 160, 50);
    assert_eq!(count(&lines, "try: weft ui"), 3, "{lines:#?}");
    assert!(count(&lines, "RETRIES") == 1 && count(&lines, "it has no stream") == 1, "{lines:#?}");
}

#[test]
fn large_mesh_leaves_each_table_its_part_and_the_one_in_focus_most() {
    let mut app = app(shop(100));
    let lines = screen(&mut app, 80, 24);
    let edges = count(&lines, "shop/service-");
    assert!(edges >= 7 && count(&lines, "shop/cart-") >= 1 && count(&lines, "2x") == 1, "{lines:#?}");
    app.key(crossterm::event::KeyCode::Tab.into());
    let lines = screen(&mut app, 80, 24);
    assert_eq!(count(&lines, "shop/cart-"), 6, "{lines:#?}");
}

#[test]
fn any_size_is_drawn() {
    for (width, height) in [(1, 1), (10, 3), (20, 5), (40, 8), (79, 23), (500, 200)] {
        for overlay in [Overlay::None, Overlay::Details, Overlay::Help] {
            let mut app = app(shop(30));
            app.overlay = overlay;
            screen(&mut app, width, height);
        }
    }
}

#[test]
fn what_died_and_what_is_away_stand_on_top() {
    let mut app = app(shop(3));
    app.fallen = vec!["cart-v1 has ended (signal: 9): logs/cart-v1.log".to_owned()];
    app.take(Picture {
        troubles: vec!["nothing listens on 127.0.0.1:7400".to_owned()],
        ..Picture::default()
    });
    let lines = screen(&mut app, 80, 24);
    assert!(lines[1].contains("cart-v1 has ended") && lines[2].contains("nothing listens"), "{lines:#?}");
    assert_eq!(count(&lines, "shop/service-"), 3, "what was known stays");
}

#[test]
fn row_opens_with_what_is_known_of_it() {
    let mut app = app(shop(3));
    app.key(crossterm::event::KeyCode::Enter.into());
    let lines = screen(&mut app, 80, 24);
    assert_eq!(count(&lines, "weft explain --recent shop/web shop/service-00"), 1, "{lines:#?}");
}
