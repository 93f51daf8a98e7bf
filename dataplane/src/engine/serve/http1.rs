//! HTTP/1.1 on a downstream connection.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use weft_http1::server::{End, ReceivedBody, RequestHandler, ServerConnection};
use weft_http1::{CodecOptions, FieldCase, Malformed};

use super::super::body::Incoming;
use super::super::connection_manager;
use super::super::http_connection::HttpConnection;
use super::super::limits::RequestLimits;
use super::super::observed_stream::ObservedStream;
use super::super::response_body::ResponseBody;
use super::{Driven, Ended};
use crate::runtime::HttpManager;

/// A connection whose requests are answered by `answer`. One request at a time: its limits are the connection's.
pub(super) fn driver<A>(
    connection: Rc<HttpConnection>,
    limits: Rc<RequestLimits>,
    io: ObservedStream,
    manager: &HttpManager,
    answer: impl FnMut(Request<Incoming>) -> A,
) -> impl Driven
where
    A: Future<Output = Response<ResponseBody>>,
{
    let case = if manager.http1.title_case_headers { FieldCase::Title } else { FieldCase::Lower };
    let heads = weft_http1::HeadLimits { fields: manager.limits.headers, bytes: manager.limits.header_bytes };
    let service = StreamHandler { connection, limits, answer };
    ServerConnection::new(io, service, CodecOptions { limits: heads, case })
}

struct StreamHandler<F> {
    connection: Rc<HttpConnection>,
    limits: Rc<RequestLimits>,
    answer: F,
}

impl<F, A> RequestHandler<ObservedStream> for StreamHandler<F>
where
    F: FnMut(Request<Incoming>) -> A,
    A: Future<Output = Response<ResponseBody>>,
{
    type Body = ResponseBody;
    type Answer = A;

    fn answer(&mut self, request: Request<ReceivedBody<ObservedStream>>) -> A {
        (self.answer)(request.map(Incoming::Http1))
    }

    fn refuse(&mut self, malformed: Malformed) -> Response<ResponseBody> {
        connection_manager::refuse(&self.connection, self.limits.clone(), malformed)
    }
}

impl<S: RequestHandler<ObservedStream>> Driven for ServerConnection<ObservedStream, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        Self::poll(self, cx).map(|ended| match ended {
            Ok(End::Closed | End::Upgraded) => Ended::Well,
            Ok(End::Refused(_)) | Err(weft_http1::Error::Malformed(_)) => Ended::ProtocolError,
            Err(_) => Ended::Well,
        })
    }

    fn finish(&mut self) {
        Self::finish(self);
    }

    fn cut(&self) -> Ended {
        if self.refused().is_some() { Ended::ProtocolError } else { Ended::Cut }
    }

    fn is_lingering(&self) -> bool {
        Self::is_lingering(self)
    }
}
