//! Flags of `weft explain`.

use clap::Args as ClapArgs;

use super::OutputFormat;

#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "weft explain [OPTIONS] FROM TO [METHOD PATH]\n       weft explain [OPTIONS] --request-id ID\n       weft explain [OPTIONS] --recent [FROM] [TO]",
    after_help = "Examples:
  weft explain shop/web shop/cart GET /items -H 'x-team: red'
  weft explain shop/web shop/cart
  weft explain shop/web api.example.com GET /
  weft explain --request-id 5c1b0d4e-7f3a-4d3e-9a52-0d9f6f0c2a11
  weft explain --recent shop/web shop/cart"
)]
pub struct Explain {
    /// One request of the last ten minutes, hop by hop: the x-request-id that its answer carries
    #[arg(long, value_name = "ID", conflicts_with_all = ["recent", "from"])]
    pub request_id: Option<String>,
    /// The newest requests that failed, of FROM and to TO where they are given
    #[arg(long, conflicts_with_all = ["method", "headers"])]
    pub recent: bool,
    /// Who calls: a service or a workload, NAMESPACE/NAME; with --recent also `-`, for any
    #[arg(required_unless_present_any = ["request_id", "recent"])]
    pub from: Option<String>,
    /// What is called: NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT, or a host name as the application writes it
    #[arg(required_unless_present_any = ["request_id", "recent"])]
    pub to: Option<String>,
    /// The request's method; without it and a path, all that may become of requests is told
    #[arg(requires = "path")]
    pub method: Option<String>,
    /// The request's path, with the query
    pub path: Option<String>,
    /// A header of the request; `host` is the host name that it is sent to
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", requires = "method")]
    pub headers: Vec<String>,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
