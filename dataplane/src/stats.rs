//! Statistics under Envoy's names, without a lock or an atomic on the request path.
//!
//! ```text
//! control thread                      worker
//! Registry: name -> id  --prepare-->  ids in the Runtime
//!                                     Shard: id -> plain integer
//! StatsSnapshot <----- ShardSnapshot ----- collect() on a scrape
//!    |  Registry::readings
//!    +--> text, Prometheus, metrics service
//! ```
//!
//! Names are resolved once, when a listener or cluster is prepared; a request only indexes vectors. The control
//! thread keeps a [`Shard`] of its own for what it counts (membership, configuration updates). A series that is
//! hidden keeps its id, so a worker that still runs the older Runtime never writes into somebody else's number.

mod events;
mod groups;
mod histogram;
mod prometheus;
mod registry;
mod shard;
mod text;

pub use events::event_readings;
pub use groups::{
    AccessLogStats, BreakerStats, ClusterStats, DnsCacheStats, ExtAuthzClusterStats, HttpStats,
    ListenerStats, OtlpStats, OutlierStats, RbacStats, RouteStats, ServerStats, TcpStats, TlsStats,
    TracingStats,
};
pub use histogram::Histogram;
pub use prometheus::{families, render_prometheus};
pub use registry::{SeriesReading, StatValue, StatsRegistry, StatsScope};
pub use shard::{CodesId, CounterId, GaugeId, HistogramId, Shard, ShardSnapshot, StatsSnapshot};
pub use text::render_text;
