//! The tour on `docker compose up`.

use weft_e2e::harness::Place;

use crate::follow;
use crate::page::{Page, root};
use crate::shell::Shell;

pub const PAGE: &str = "docs/tasks/compose.md";

/// The containers run already, by `scripts/compose`, which also removes what the tour leaves.
#[tokio::test]
#[ignore = "needs a Docker engine and the images of docker-compose.yml: `make compose` runs it"]
async fn tour_in_containers_goes_as_the_page_says() {
    let page = Page::read(PAGE).expect("the tour");
    let mut shell = Shell::start(&Place::here(), &root()).expect("a shell");
    // As the shell of a person, which is no script.
    shell.run("shopt -s expand_aliases").await.expect("bash");
    follow(page.blocks(), &mut shell).await.unwrap_or_else(|error| panic!("{error:#}"));
}
