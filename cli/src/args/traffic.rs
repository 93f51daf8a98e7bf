//! Of the commands that show requests.

use clap::Args as ClapArgs;

use super::OutputFormat;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft tap shop/web shop/cart
  weft tap - payments -n shop --failed
  weft tap shop/web - --header user-agent -o json | jq .path")]
pub struct Tap {
    /// Calls from this service, [NAMESPACE/]SERVICE; `-` for any
    #[arg(allow_hyphen_values = true)]
    pub from: String,
    /// Calls to this service; `-` for any
    #[arg(allow_hyphen_values = true)]
    pub to: String,
    /// Namespace of services that are named without one
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// With this method
    #[arg(long)]
    pub method: Option<String>,
    /// Whose path begins so
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Answered so: 503, or 5xx
    #[arg(long)]
    pub status: Option<String>,
    /// What failed or was refused
    #[arg(long)]
    pub failed: bool,
    /// Show this header of request and response; may be repeated
    #[arg(long = "header", value_name = "NAME", value_delimiter = ',')]
    pub headers: Vec<String>,
    /// `wide` shows all that is known of each; `json` one document a line
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
