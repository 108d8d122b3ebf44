//! A request from its head to the last of its answer: who is waited for, what is counted and written down.

use super::access::{Entry, Log};
use super::asgi::websocket;
use super::front::{Client, Front, strict};
use super::job::RequestBody;
use super::pool::Pool;
use super::reply::{self, Answer, Refusal, ReplyBody, own};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::sync::oneshot;

/// A request that waits for its answer. hyper moves it about for each request: it is to stay small.
pub(super) struct Answering {
    front: Arc<Front>,
    client: Arc<Client>,
    begun: Instant,
    entry: Option<Box<Entry>>,
    source: Source,
}

/// Where the answer comes from.
enum Source {
    /// A worker has the request, and nothing else is to be done.
    Worker {
        answer: oneshot::Receiver<Response<ReplyBody>>,
        method: Method,
        /// Tells the application if the client goes.
        asked: Option<Asked>,
    },
    /// More has to be done, before or meanwhile.
    More(Pin<Box<dyn Future<Output = Answer> + Send>>),
    /// It is known already.
    Known(Refusal),
}

/// A request that an ASGI application has: it is told if the client goes before there is an answer.
pub(super) struct Asked {
    pub(super) pool: Arc<Pool>,
    pub(super) number: u32,
    pub(super) answered: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.pool.gone(self.number);
        }
    }
}

impl Answering {
    /// Begins with a request whose head has come.
    pub(super) fn begin(
        front: &Arc<Front>,
        client: &Arc<Client>,
        request: Request<Incoming>,
    ) -> Answering {
        let entry = front.records.log.as_ref();
        let entry = entry.map(|_| Box::new(Entry::begin(&request, &client.ends)));
        Answering {
            begun: Instant::now(),
            entry,
            source: Source::of(front, client, request),
            front: front.clone(),
            client: client.clone(),
        }
    }
}

impl Source {
    fn of(front: &Arc<Front>, client: &Arc<Client>, request: Request<Incoming>) -> Source {
        if let Err(refusal) = strict(&request) {
            return Source::Known(refusal);
        }
        let asgi = front.pool.is_asgi();
        let simple = request.body().is_end_stream()
            && front.limits.request_time.is_none()
            && !(asgi && websocket::is_wanted(request.headers()));
        if !simple {
            let (front, client) = (front.clone(), client.clone());
            return Source::More(if asgi {
                Box::pin(front.handle_asgi(request, client))
            } else {
                Box::pin(front.handle(request, client))
            });
        }
        let (head, _) = request.into_parts();
        let (asked, answer) = if asgi {
            let (asked, answer) = front.ask_asgi(&head, client, RequestBody::Empty);
            (Some(asked), answer)
        } else {
            (None, front.ask(&head, client, RequestBody::Empty))
        };
        Source::Worker {
            answer,
            method: head.method,
            asked,
        }
    }

    fn poll(&mut self, front: &Front, context: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(match self {
            Source::Worker {
                answer,
                method,
                asked,
            } => {
                let answer = ready!(Pin::new(answer).poll(context));
                if let Some(asked) = asked {
                    asked.answered = true;
                }
                reply::come(answer).map(|response| front.without_body(method, response))
            }
            Source::More(more) => ready!(more.as_mut().poll(context)),
            Source::Known(refusal) => Err(*refusal),
        })
    }
}

impl Future for Answering {
    type Output = Result<Response<Accounted>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut response = match ready!(this.source.poll(&this.front, context)) {
            Ok(response) => response,
            Err((code, text)) => {
                let mut response = own(code, text);
                // what is left of the request is not read
                close(&mut response);
                response
            }
        };
        if this.front.is_closing() {
            close(&mut response);
        }
        if let ReplyBody::File { outgoing, .. } = response.body_mut() {
            *outgoing = Some(this.client.outgoing.clone());
        }
        Poll::Ready(Ok(this.account(response)))
    }
}

fn close(response: &mut Response<ReplyBody>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
}

impl Answering {
    /// Counts an answer, and sees to it that it is written down.
    fn account(&mut self, mut response: Response<ReplyBody>) -> Response<Accounted> {
        let (front, begun) = (&self.front, self.begun);
        let took = begun.elapsed();
        front.shown.counts.answered(response.status(), took);
        front.shown.changed(&front.pool);
        if front.records.timing {
            let text = format!("total;dur={:.3}", took.as_secs_f64() * 1e3);
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().append("server-timing", value);
            }
        }
        let status = response.status().as_u16();
        let record = self.entry.take().zip(front.records.log.clone());
        let record = record.map(|(mut entry, log)| {
            entry.status = status;
            Box::new(Record {
                entry,
                log,
                begun,
                broken: false,
            })
        });
        response.map(|body| Accounted { body, record })
    }
}

/// The body of an answer, and what is to be written down of it at its end.
pub(super) struct Accounted {
    body: ReplyBody,
    record: Option<Box<Record>>,
}

struct Record {
    entry: Box<Entry>,
    log: Arc<Log>,
    begun: Instant,
    broken: bool,
}

impl Drop for Accounted {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.entry.took = record.begun.elapsed();
            record.entry.whole = !record.broken && self.body.is_end_stream();
            record.log.write(&record.entry);
        }
    }
}

impl Body for Accounted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let (Some(record), Poll::Ready(Some(frame))) = (&mut self.record, &frame) {
            match frame {
                Ok(frame) => record.entry.bytes += frame.data_ref().map_or(0, |d| d.len() as u64),
                Err(_) => record.broken = true,
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
