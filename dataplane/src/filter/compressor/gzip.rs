//! Gzip, a piece at a time.

use std::io::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::CompressorStats;
use crate::engine::body::Transform;
use crate::engine::local::Local;

/// How much is compressed at once: what comes out is hardly more, whatever goes in.
const STEP: usize = 16 * 1024;

/// Compresses the content of one message. Each piece goes out with all that was compressed until then, so that a caller of
/// a slow stream waits for nothing that the server has said.
#[derive(Debug)]
pub(super) struct GzipTransform {
    encoder: GzEncoder<Vec<u8>>,
    worker: Rc<Local>,
    stats: CompressorStats,
}

impl GzipTransform {
    pub(super) fn new(level: Compression, worker: Rc<Local>, stats: CompressorStats) -> Self {
        Self { encoder: GzEncoder::new(Vec::new(), level), worker, stats }
    }
}

impl Transform for GzipTransform {
    fn next(&mut self, input: &mut Bytes, ended: bool) -> Bytes {
        let taken = input.split_to(input.len().min(STEP));
        let written = self.encoder.write_all(&taken).and_then(|()| match (input.is_empty(), ended) {
            (true, true) => self.encoder.try_finish(),
            (true, false) => self.encoder.flush(),
            (false, _) => Ok(()),
        });
        debug_assert!(written.is_ok(), "memory takes all: {written:?}");
        let made = std::mem::take(self.encoder.get_mut());
        self.worker.shard.add(self.stats.total_uncompressed_bytes, taken.len() as u64);
        self.worker.shard.add(self.stats.total_compressed_bytes, made.len() as u64);
        made.into()
    }
}
