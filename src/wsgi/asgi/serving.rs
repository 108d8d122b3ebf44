//! The front for ASGI: requests whose bodies may still be coming, clients that may go, and WebSockets.

use super::deflate::Agreed;
use super::link::{Order, PART, Window};
use super::scope;
use super::websocket::{self, Call};
use crate::wsgi::answering::Asked;
use crate::wsgi::environ::Ends;
use crate::wsgi::front::{Client, Front, IN_MEMORY};
use crate::wsgi::job::{Job, RequestBody};
use crate::wsgi::marshal::Writer;
use crate::wsgi::pool::Pool;
use crate::wsgi::reply::{Answer, Refusal, ReplyBody, TOO_LARGE};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

impl Front {
    /// Lets an ASGI application answer.
    ///
    /// # Errors
    /// Why the server answers itself.
    pub(in crate::wsgi) async fn handle_asgi(
        self: Arc<Front>,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Answer {
        let (head, body) = request.into_parts();
        if websocket::is_wanted(&head.headers) {
            return self.open_socket(head, &client.ends).await;
        }
        let short = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= IN_MEMORY as u64);
        let mut coming = None;
        let body = if short {
            self.collect(body).await?
        } else {
            if self
                .limits
                .body
                .is_some_and(|limit| body.size_hint().lower() > limit)
            {
                return Err(TOO_LARGE);
            }
            let window = Window::default();
            coming = Some((body, window.clone()));
            RequestBody::Coming(window)
        };
        let (mut asked, answer) = self.ask_asgi(&head, &client, body);
        let answer = self.pool.in_time(answer, self.limits.request_time);
        let answer = match coming {
            None => answer.await?,
            Some((body, window)) => {
                // the application may answer before it has read all; what is left goes on coming
                let limit = self.limits.body;
                let (refused, refusal) = oneshot::channel();
                // one without a length may be a conversation: it may be silent
                let patience = body.size_hint().exact().map(|_| self.limits.body_time);
                let upload = Upload {
                    pool: self.pool.clone(),
                    number: asked.number,
                    body,
                    window,
                    limit: limit.unwrap_or(u64::MAX),
                    patience,
                };
                tokio::spawn(upload.run(refused));
                tokio::select! {
                    biased;
                    answer = answer => answer?,
                    Ok(refusal) = refusal => return Err(refusal),
                }
            }
        };
        asked.answered = true;
        Ok(self.without_body(&head.method, answer))
    }

    /// Gives a request to the workers of an ASGI application; where its answer comes.
    pub(in crate::wsgi) fn ask_asgi(
        &self,
        head: &Parts,
        client: &Client,
        body: RequestBody,
    ) -> (Asked, oneshot::Receiver<Response<ReplyBody>>) {
        let scope = client.environ(head, |out| {
            scope::write(out, head, &client.ends, &self.site, false);
        });
        self.hand_in(head, &client.ends, scope, body)
    }

    fn hand_in(
        &self,
        head: &Parts,
        ends: &Ends,
        environ: Bytes,
        body: RequestBody,
    ) -> (Asked, oneshot::Receiver<Response<ReplyBody>>) {
        let (reply, answer) = oneshot::channel();
        let number = self.pool.submit(Job {
            environ,
            target: scope::target(head, &self.site),
            port: ends.port,
            body,
            reply,
            asgi: true,
        });
        let asked = Asked {
            pool: self.pool.clone(),
            number,
            answered: false,
        };
        (asked, answer)
    }

    async fn open_socket(&self, mut head: Parts, ends: &Ends) -> Answer {
        let accept = match websocket::check(&head) {
            Ok(accept) => accept,
            Err(refusal) => return Ok(*refusal),
        };
        if self.is_closing() {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "The server is stopping."));
        }
        let Some(upgrade) = head.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
            let text = "This connection cannot become a WebSocket.";
            return Err((StatusCode::BAD_REQUEST, text));
        };
        let window = Window::default();
        let body = RequestBody::Socket(window.clone());
        let mut scope = Writer::new();
        scope::write(&mut scope, &head, ends, &self.site, true);
        let scope = scope.into_bytes().into();
        let (mut asked, answer) = self.hand_in(&head, ends, scope, body);
        let limit = self.limits.request_time;
        let mut response = self.pool.in_time(answer, limit).await?;
        let said =
            match std::mem::replace(response.body_mut(), ReplyBody::Whole(Default::default())) {
                ReplyBody::Socket(said) => said,
                // it was refused
                other => {
                    *response.body_mut() = other;
                    asked.answered = true;
                    return Ok(response);
                }
            };
        let compression = match self.limits.sockets.compressed {
            true => Agreed::with(&head.headers),
            false => None,
        };
        websocket::accepted(&mut response, accept, compression);
        asked.answered = true;
        let call = Call {
            pool: self.pool.clone(),
            number: asked.number,
            window,
            said,
            limits: self.limits.sockets,
            compression,
        };
        let counted = self.count();
        tokio::spawn(async move {
            call.serve(upgrade).await;
            drop(counted);
        });
        Ok(response)
    }
}

/// A body on its way to the worker.
struct Upload {
    pool: Arc<Pool>,
    number: u32,
    body: Incoming,
    window: Window,
    limit: u64,
    /// How long nothing of it may come.
    patience: Option<Duration>,
}

impl Upload {
    /// Gives the body to the worker as it comes and as the application takes it; says so if it cannot be taken.
    async fn run(mut self, refused: oneshot::Sender<Refusal>) {
        if let Err(refusal) = self.pass().await {
            self.pool.gone(self.number);
            // the answer may have been sent already
            let _ = refused.send(refusal);
        }
    }

    async fn pass(&mut self) -> Result<(), Refusal> {
        let mut length = 0u64;
        while let Some(frame) = self.frame().await? {
            // trailers are not for ASGI
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            length += data.len() as u64;
            if length > self.limit {
                return Err(TOO_LARGE);
            }
            while !data.is_empty() {
                let part = data.split_to(data.len().min(PART));
                if !self.window.room(Window::cost(part.len())).await {
                    return Ok(());
                }
                self.pool.order(self.number, Order::Part(part));
            }
        }
        // there is room when a worker has the request, not before
        if self.window.room(Window::cost(0)).await {
            self.pool.order(self.number, Order::Last(Bytes::new()));
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Refusal> {
        let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
        let frame = match self.patience {
            None => frame.await,
            Some(patience) => tokio::time::timeout(patience, frame).await.map_err(|_| {
                let text = "The request's body has not come.";
                (StatusCode::REQUEST_TIMEOUT, text)
            })?,
        };
        let broken = (StatusCode::BAD_REQUEST, "The request's body is broken.");
        frame.transpose().map_err(|_| broken)
    }
}
