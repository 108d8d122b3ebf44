//! WebSockets, with a client of the library's and with bytes of our own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use nix::sys::signal::Signal;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client_with_config};
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use crate::client::Server;
use crate::support::{TempSite, deadline};
use crate::{marks, served, start};

type Socket = WebSocket<TcpStream>;
/// With the head of its handshake.
type Opened = (Socket, Response<()>);
type Refused = Box<Response<Option<Vec<u8>>>>;

/// Opens a WebSocket; an answer that is no handshake otherwise.
fn dial(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Result<Opened, Refused> {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    stream.set_read_timeout(Some(deadline())).expect("a limit");
    let url = format!("ws://127.0.0.1:{}/{path}", server.port);
    let mut request = url.into_client_request().expect("a request");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a value");
        request.headers_mut().insert(*name, value);
    }
    let config = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, response)) => Ok((socket, response.map(|_| ()))),
        Err(HandshakeError::Failure(Error::Http(response))) => Err(response),
        Err(error) => panic!("{error}\n{}", server.log()),
    }
}

#[track_caller]
fn open(server: &Server, path: &str) -> Socket {
    match dial(server, path, &[]) {
        Ok((socket, _)) => socket,
        Err(response) => panic!("{response:?}\n{}", server.log()),
    }
}

/// Reads to the end: the code and reason of the close frame; none: the connection has broken.
fn closed(socket: &mut Socket) -> Option<(u16, String)> {
    let mut told = None;
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => {
                told = Some((frame.code.into(), frame.reason.to_string()));
            }
            Ok(Message::Close(None)) => told = Some((1005, String::new())),
            Ok(_) => {}
            // the answer to the close frame was sent
            Err(_) => return told,
        }
    }
}

#[test]
fn the_handshake_and_its_scope() {
    served("socket_scope", &[], |_, server| {
        let offered = [("sec-websocket-protocol", "one, two"), ("cookie", "a=1")];
        let (mut socket, response) = dial(server, "a%20b?q=1", &offered).expect("a WebSocket");
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-protocol"], "two");
        assert_eq!(response.headers()["x-more"], "yes");
        let text = socket.read().unwrap().into_text().unwrap();
        for line in [
            "asgi={'version': '3.0', 'spec_version': '2.4'}",
            "extensions={'websocket.http.response': {}}",
            "http_version='1.1'",
            "path='/a b'",
            "raw_path=b'/a%20b'",
            "query_string=b'q=1'",
            "root_path=''",
            "scheme='ws'",
            "state={}",
            "subprotocols=['one', 'two']",
            "type='websocket'",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        assert!(
            text.contains("(b'cookie', b'a=1')") && text.contains("client=('127.0.0.1', "),
            "{text}"
        );
        assert!(!text.contains("method="), "{text}");
        assert_eq!(closed(&mut socket), Some((1000, String::new())));
    });
}

#[test]
fn messages_of_all_sizes_go_there_and_back() {
    served("sockets", &[], |site, server| {
        let mut socket = open(server, "echo");
        for size in [0, 1, 125, 126, 65_535, 65_536, 65_537, 1_000_000] {
            for message in [
                Message::binary(vec![7; size]),
                Message::text("x".repeat(size)),
                // characters that parts may end in the middle of
                Message::text(format!("x{}", "\u{e9}\u{2264}".repeat(size / 5))),
            ] {
                socket.send(message.clone()).unwrap();
                assert!(socket.read().unwrap() == message, "{size}");
            }
        }
        // many before the first is read
        for round in 0..500 {
            socket.write(Message::text(round.to_string())).unwrap();
        }
        socket.flush().unwrap();
        for round in 0..500 {
            assert_eq!(socket.read().unwrap(), Message::text(round.to_string()));
        }
        socket.send(Message::Ping("there?".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("there?".into()));
        let frame = CloseFrame {
            code: CloseCode::Library(4321),
            reason: "enough".into(),
        };
        socket.close(Some(frame)).unwrap();
        assert_eq!(closed(&mut socket).map(|(code, _)| code), Some(4321));
        assert_eq!(
            marks(site, server, 2),
            ["disconnect 4321 'enough'", "OSError"]
        );
        assert_eq!(server.get("/").text(), "http\n");
    });
    served("sockets", &[], |_, server| {
        let mut socket = open(server, "large");
        for size in [0, 1, 125, 126, 65_535, 65_536, 65_537, 1_000_000] {
            assert!(
                socket.read().unwrap() == Message::binary(vec![b'x'; size]),
                "{size}"
            );
            assert!(
                socket.read().unwrap() == Message::text("\u{e9}".repeat(size)),
                "{size}"
            );
        }
    });
}

#[test]
fn an_application_may_refuse_and_close() {
    served("sockets", &[], |site, server| {
        for (path, status, body) in [
            ("refuse", 403, ""),
            ("deny", 401, "not you"),
            ("raise-first", 500, "Internal Server Error\n"),
            ("return-first", 500, "Internal Server Error\n"),
        ] {
            let response = dial(server, path, &[]).map(|_| ()).expect_err(path);
            assert_eq!(response.status(), status, "{path}");
            let got = response.body().clone().unwrap_or_default();
            assert_eq!(String::from_utf8(got).unwrap(), body, "{path}");
        }
        let first = "{'type': 'websocket.disconnect', 'code': 1006, 'reason': ''}";
        assert_eq!(marks(site, server, 1), [first]);
        for (path, code, reason) in [
            ("close", 4001, "caf\u{e9} \u{2264} enough"),
            ("raise", 1011, ""),
            ("return", 1000, ""),
        ] {
            let mut socket = open(server, path);
            assert_eq!(
                closed(&mut socket),
                Some((code, reason.to_string())),
                "{path}"
            );
        }
        let marks = marks(site, server, 3);
        assert!(marks[1].contains("'code': 4001"), "{marks:?}");
        assert!(
            server.log().contains("ValueError: raised on an open one"),
            "{}",
            server.log()
        );
        // a worker's death closes those that it has
        let mut bystander = open(server, "echo");
        assert_eq!(
            closed(&mut open(server, "die")),
            Some((1011, String::new()))
        );
        assert_eq!(closed(&mut bystander), Some((1011, String::new())));
        server.wait_for("a new worker", || {
            let mut socket = dial(server, "echo", &[]).ok()?.0;
            socket.send(Message::text("x")).ok()?;
            (socket.read().ok()? == Message::text("x")).then_some(())
        });
    });
}

/// A connection after its handshake, byte for byte.
fn raw(server: &Server) -> TcpStream {
    raw_with(server, "").0
}

/// The same with more headers; and the head of the answer, in lower case.
fn raw_with(server: &Server, more: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    stream.set_read_timeout(Some(deadline())).expect("a limit");
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    (stream, head)
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(0x80 | short as u8),
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn messages_may_come_in_fragments() {
    served("sockets", &[], |_, server| {
        let mut stream = raw(server);
        // a ping between the fragments, and a character in two of them
        for part in [
            frame(0x01, b"a\xc3"),
            frame(0x89, b"p"),
            frame(0x00, b"\xa9"),
            frame(0x80, b"z"),
        ] {
            stream.write_all(&part).unwrap();
        }
        let mut got = [0; 9];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"\x8a\x01p\x81\x04a\xc3\xa9z");
    });
}

/// First byte and payload of the next frame.
fn heard(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).unwrap();
            u64::from_be_bytes(length) as usize
        }
        length => length.into(),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// As RFC 7692 has it: without the end of the last block.
fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(plain.len() / 100 + 1000);
    let mut compress = Compress::new(Compression::best(), false);
    compress
        .compress_vec(plain, &mut packed, FlushCompress::Sync)
        .unwrap();
    packed.strip_suffix(&[0, 0, 0xff, 0xff]).unwrap().to_vec()
}

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

#[test]
fn messages_are_compressed_if_the_client_offers_it() {
    served("sockets", &[], |_, server| {
        let (mut stream, head) = raw_with(server, OFFER);
        let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                      client_no_context_takeover\r\n";
        assert!(head.contains(agreed), "{head}");
        // one of the RFC's, in two fragments with a ping between; the answer is too short to be compressed
        for part in [
            frame(0x41, &[0xf2, 0x48, 0xcd]),
            frame(0x89, b"p"),
            frame(0x80, &[0xc9, 0xc9, 0x07, 0x00]),
        ] {
            stream.write_all(&part).unwrap();
        }
        assert_eq!(heard(&mut stream), (0x8a, b"p".to_vec()));
        assert_eq!(heard(&mut stream), (0x81, b"Hello".to_vec()));
        // compressed and not, text and bytes, there and back
        let text = "there and back, ".repeat(20_000);
        for (first, payload) in [
            (0xc1, deflated(text.as_bytes())),
            (0x81, text.clone().into_bytes()),
            (0xc2, deflated(text.as_bytes())),
        ] {
            stream.write_all(&frame(first, &payload)).unwrap();
            let (kind, packed) = heard(&mut stream);
            assert_eq!(kind, first | 0x40);
            assert!(packed.len() < text.len() / 10);
            let mut plain = Vec::with_capacity(text.len() + 1);
            let whole = [&packed[..], &[0, 0, 0xff, 0xff]].concat();
            Decompress::new(false)
                .decompress_vec(&whole, &mut plain, FlushDecompress::Sync)
                .unwrap();
            assert!(plain == text.as_bytes());
        }
    });
    served(
        "sockets",
        &["--ws-per-message-deflate", "false"],
        |_, server| {
            let (mut stream, head) = raw_with(server, OFFER);
            assert!(!head.contains("extensions"), "{head}");
            stream.write_all(&frame(0xc1, &deflated(b"x"))).unwrap();
            assert_eq!(heard(&mut stream), (0x88, vec![3, 234]));
        },
    );
}

#[test]
fn a_compressed_message_is_not_larger_than_others_may_be() {
    served("sockets", &["--ws-max-size", "1000000"], |_, server| {
        for (packed, code) in [
            // 17 KB that become 17 MB
            (deflated(&vec![0; 17 << 20]), 1009),
            (vec![0xff; 100], 1002),
        ] {
            let (mut stream, _) = raw_with(server, OFFER);
            stream.write_all(&frame(0xc2, &packed)).unwrap();
            let (kind, payload) = heard(&mut stream);
            assert_eq!((kind, &payload[..2]), (0x88, &u16::to_be_bytes(code)[..]));
        }
        let (mut stream, _) = raw_with(server, OFFER);
        let largest = deflated(&vec![7; 1_000_000]);
        stream.write_all(&frame(0xc2, &largest)).unwrap();
        // too long to be compressed again
        let (kind, payload) = heard(&mut stream);
        assert!(kind == 0x82 && payload == vec![7; 1_000_000]);
    });
}

#[test]
fn clients_that_break_the_rules_are_told_so() {
    served("sockets", &["--ws-max-size", "1000"], |site, server| {
        for (what, bytes, code) in [
            ("no mask", b"\x81\x01x".to_vec(), 1002),
            ("a reserved bit", frame(0xc1, b"x"), 1002),
            ("an unknown kind", frame(0x83, b"x"), 1002),
            ("a ping in fragments", frame(0x09, b"x"), 1002),
            ("no beginning", frame(0x80, b"x"), 1002),
            ("no text", frame(0x81, b"\xff\xfe"), 1007),
            (
                "no text in fragments",
                [frame(0x01, b"a\xf4"), frame(0x80, b"\x90\x80\x80")].concat(),
                1007,
            ),
            ("a long ping", frame(0x89, &[b'x'; 126]), 1002),
            (
                "another message in the middle",
                [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
                1002,
            ),
            ("half a close code", frame(0x88, b"\x03"), 1002),
            (
                "a reason that is no text",
                frame(0x88, b"\x03\xe8\xff"),
                1007,
            ),
            ("too long", frame(0x82, &[0; 1001]), 1009),
            (
                "too long in all",
                [frame(0x02, &[0; 900]), frame(0x80, &[0; 900])].concat(),
                1009,
            ),
        ] {
            let before = fs::read_to_string(site.path("mark")).unwrap_or_default();
            let mut stream = raw(server);
            stream.write_all(&bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap_or_default();
            assert_eq!(answer.first(), Some(&0x88), "{what}: {answer:?}");
            assert_eq!(
                answer.get(2..4),
                Some(&u16::to_be_bytes(code)[..]),
                "{what}"
            );
            let line = format!("disconnect {code} ''\n");
            server.wait_for(what, || {
                let now = fs::read_to_string(site.path("mark")).unwrap_or_default();
                now[before.len()..].contains(&line).then_some(())
            });
        }
        // one that is as long as it may be
        let mut socket = open(server, "echo");
        socket.send(Message::binary(vec![1; 1000])).unwrap();
        assert_eq!(socket.read().unwrap().len(), 1000);
    });
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    served("sockets", &[], |_, server| {
        let proper = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
        for (change, to, status) in [
            ("13", "8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
            // another protocol is not asked for in vain: the request is a usual one
            ("websocket", "h2c", 200),
        ] {
            let more = proper.replacen(change, to, 1);
            let answer = server.open().ask("GET", "/", &more, b"");
            assert_eq!(answer.status, status, "{change}");
            if status == 426 {
                assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            }
        }
        assert_eq!(server.open().ask("POST", "/", proper, b"x").status, 400);
    });
}

#[test]
fn neither_side_of_a_websocket_runs_ahead_of_the_other() {
    served("sockets", &[], |site, server| {
        // the application does not take what the client sends
        let mut socket = open(server, "lazy");
        let limit = Some(std::time::Duration::from_millis(500));
        socket.get_mut().set_write_timeout(limit).unwrap();
        let mut sent = 0u64;
        let stuck = loop {
            match socket.send(Message::binary(vec![0; 100_000])) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 1000, "nobody has stopped it");
        };
        assert!(matches!(stuck, Error::Io(_)), "{stuck}");
        socket.get_mut().set_write_timeout(None).unwrap();
        site.write("mark.go", "");
        socket.flush().unwrap();
        // what was stopped half-way was sent as well
        socket.send(Message::binary("last")).unwrap();
        let count = sent + 2;
        let expected = format!("{count} {}", (sent + 1) * 100_000 + 4);
        assert_eq!(socket.read().unwrap(), Message::text(expected));
    });
    served("sockets", &[], |site, server| {
        // the client does not take what the application sends
        let socket = open(server, "push");
        let stuck = marks(site, server, 1);
        let sent: u64 = stuck[0].strip_prefix("stuck ").unwrap().parse().unwrap();
        assert!(sent < 32 << 20, "{sent}");
        drop(socket);
        server.wait_for("the application to hear of it", || {
            let text = fs::read_to_string(site.path("mark")).unwrap_or_default();
            text.lines().any(|line| line == "gone").then_some(())
        });
    });
}

#[test]
fn a_client_that_does_not_answer_pings_is_gone() {
    let limits = ["--ws-ping-interval", "0.05", "--ws-ping-timeout", "1.5"];
    served("sockets", &limits, |site, server| {
        let mut silent = raw(server);
        let mut answer = Vec::new();
        silent.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"\x89\x04circ"), "{answer:?}");
        let text = b"\x03\xf3keepalive ping timeout";
        assert!(answer.ends_with(text), "{answer:?}");
        assert_eq!(marks(site, server, 2), ["disconnect 1006 ''", "OSError"]);
        // one that answers stays
        let mut lively = open(server, "echo");
        let mut pings = 0;
        while pings < 5 {
            if let Message::Ping(_) = lively.read().unwrap() {
                pings += 1;
            }
        }
        lively.send(Message::text("still here")).unwrap();
        while lively.read().unwrap() != Message::text("still here") {}
    });
}

#[test]
fn websockets_are_closed_when_the_server_ends_or_takes_a_new_application() {
    let site = TempSite::new();
    let mut server = start(&site, "sockets", &[]);
    let mut socket = open(&server, "echo");
    server.signal(Signal::SIGHUP);
    assert_eq!(closed(&mut socket), Some((1012, String::new())));
    assert_eq!(marks(&site, &server, 2), ["disconnect 1012 ''", "OSError"]);
    let mut socket = open(&server, "echo");
    socket.send(Message::text("new")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("new"));
    server.signal(Signal::SIGTERM);
    assert_eq!(closed(&mut socket), Some((1012, String::new())));
    drop(socket);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(marks(&site, &server, 4)[2], "disconnect 1012 ''");
    assert!(!server.log().contains("Traceback"), "{}", server.log());
}
