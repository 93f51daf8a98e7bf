//! The tour on `docker compose up`.

use std::path::Path;

use weft_e2e::harness::Place;

use crate::follow;
use crate::page::{self, Section};
use crate::shell::Shell;

pub const TOUR: &str = "In containers";

/// The containers run already, by `scripts/compose`, which also removes what the tour leaves.
#[tokio::test]
#[ignore = "needs a Docker engine and the images of docker-compose.yml: `make compose` runs it"]
async fn tour_in_containers_goes_as_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = page::readme().expect("README.md");
    let section = Section::find(&page, TOUR).expect("the tour");
    let mut shell = Shell::start(&Place::here(), &root).expect("a shell");
    // As the shell of a person, which is no script.
    shell.run("shopt -s expand_aliases").await.expect("bash");
    follow(section, &mut shell).await.unwrap_or_else(|error| panic!("{error:#}"));
}
