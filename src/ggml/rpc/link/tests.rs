//! A relay between a client that speaks as ggml does and workers that do not behave.

use super::*;
use crate::error::ErrorKind;

const DEVICE_COUNT: u8 = 15;
const GET_TENSOR: u8 = 8;
const SET_TENSOR: u8 = 6;

/// A worker that takes one connection and does with it what `act` says.
fn worker(act: impl FnOnce(TcpStream) + Send + 'static) -> Arc<Link> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || act(listener.accept().unwrap().0));
    Link::open(&address).unwrap()
}

fn client(link: &Link) -> TcpStream {
    let stream = TcpStream::connect(link.endpoint()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, command: u8, request: &[u8]) {
    stream.write_all(&[command]).unwrap();
    stream.write_all(&(request.len() as u64).to_le_bytes()).unwrap();
    stream.write_all(request).unwrap();
}

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut size = [0; 8];
    stream.read_exact(&mut size).unwrap();
    let mut bytes = vec![0; u64::from_le_bytes(size) as usize];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads a request as a worker does.
fn heard(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut command = [0];
    stream.read_exact(&mut command).unwrap();
    (command[0], answer(stream))
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(&(bytes.len() as u64).to_le_bytes()).unwrap();
    stream.write_all(bytes).unwrap();
}

/// A request for `n` bytes of a tensor.
fn wanted(n: u64) -> Vec<u8> {
    let mut request = vec![7; 300];
    request.extend(n.to_le_bytes());
    request
}

#[test]
fn requests_and_answers_go_through_as_they_are() {
    let large: Vec<u8> = (0..3 * CHUNK + 5).map(|i| (i % 251) as u8).collect();
    let expected = large.clone();
    let link = worker(move |mut stream| {
        assert_eq!(heard(&mut stream), (DEVICE_COUNT, vec![]));
        say(&mut stream, &2u32.to_le_bytes());
        assert_eq!(heard(&mut stream), (SET_TENSOR, expected.clone()));
        assert_eq!(heard(&mut stream).0, GET_TENSOR);
        say(&mut stream, &expected);
    });
    let mut stream = client(&link);
    ask(&mut stream, DEVICE_COUNT, &[]);
    assert_eq!(answer(&mut stream), 2u32.to_le_bytes());
    ask(&mut stream, SET_TENSOR, &large);
    ask(&mut stream, GET_TENSOR, &wanted(large.len() as u64));
    assert!(answer(&mut stream) == large);
    assert!(link.check().is_ok());
}

#[test]
fn a_worker_that_hangs_up_is_noted_and_answered_for() {
    let link = worker(|mut stream| {
        heard(&mut stream);
        // Half an answer.
        stream.write_all(&100u64.to_le_bytes()).unwrap();
        stream.write_all(&[9; 50]).unwrap();
    });
    let mut stream = client(&link);
    ask(&mut stream, GET_TENSOR, &wanted(100));
    assert_eq!(answer(&mut stream), [0; 100]);
    // The client can go on, and does not wait.
    ask(&mut stream, SET_TENSOR, &[1; 1000]);
    ask(&mut stream, DEVICE_COUNT, &[]);
    assert_eq!(answer(&mut stream), [0; 4]);
    let error = link.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("closed the connection"), "{error}");
    assert!(error.message().contains(link.worker()), "{error}");
}

#[test]
fn an_answer_of_another_size_is_no_answer() {
    let link = worker(|mut stream| {
        heard(&mut stream);
        say(&mut stream, &[1; 17]);
        // Keeps the connection open until the relay closes it.
        let _ = stream.read(&mut [0]);
    });
    let mut stream = client(&link);
    ask(&mut stream, DEVICE_COUNT, &[]);
    assert_eq!(answer(&mut stream), [0; 4]);
    assert!(link.check().unwrap_err().message().contains("17 bytes where 4"));
}

#[test]
fn another_version_of_the_protocol_is_named() {
    let link = worker(|mut stream| {
        heard(&mut stream);
        let mut greeting = [0; 28];
        greeting[0] = 6;
        say(&mut stream, &greeting);
        let _ = stream.read(&mut [0]);
    });
    let mut stream = client(&link);
    ask(&mut stream, HELLO, &[0; 24]);
    assert_eq!(answer(&mut stream)[0], VERSION.0);
    assert!(link.check().unwrap_err().message().contains("version 6.0"));
}

#[test]
fn a_worker_that_hung_up_while_idle_is_found_by_a_probe() {
    let (hang_up, told) = std::sync::mpsc::channel::<()>();
    let link = worker(move |stream| {
        let _ = told.recv();
        drop(stream);
    });
    link.probe();
    assert!(link.check().is_ok());
    hang_up.send(()).unwrap();
    for _ in 0..200 {
        link.probe();
        if link.check().is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the probe did not notice");
}

#[test]
fn nobody_at_the_address_is_an_error_that_names_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let error = Link::open(&address).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains(&address), "{error}");
    for nonsense in ["", "here", "127.0.0.1", "127.0.0.1:port", "a b:1"] {
        let error = Link::open(nonsense).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{nonsense}");
    }
}

#[test]
fn a_connection_that_another_process_holds_open_does_not_bar_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for n in [1u32, 2] {
            let mut stream = listener.accept().unwrap().0;
            heard(&mut stream);
            say(&mut stream, &n.to_le_bytes());
        }
    });
    let link = Link::open(&address).unwrap();
    let mut first = client(&link);
    ask(&mut first, DEVICE_COUNT, &[]);
    assert_eq!(answer(&mut first), 1u32.to_le_bytes());
    // As a child has it that was started meanwhile: what ggml closes stays open.
    let _inherited = first.try_clone().unwrap();
    drop(first);
    let mut second = client(&link);
    ask(&mut second, DEVICE_COUNT, &[]);
    assert_eq!(answer(&mut second), 2u32.to_le_bytes());
    assert!(link.check().is_ok());
}
