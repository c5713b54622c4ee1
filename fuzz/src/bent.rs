//! Programs of edits to a valid GGUF file, and plain mutations of bytes.

use remask::gguf::{Array, Gguf, Metadata, StringArray, TensorInfo, TensorType, Value};

/// Numbers taken from the input, zeros after its end.
pub struct Tape<'a>(pub &'a [u8]);

impl Tape<'_> {
    /// Whether its end was reached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number, most often one at an edge.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            2,
            3,
            7,
            31,
            33,
            64,
            288,
            289,
            65_536,
            u32::MAX as u64,
            1 << 31,
            1 << 63,
            u64::MAX,
            1 << 20,
        ];
        match self.byte() {
            b @ 0..128 => EDGES[usize::from(b % 16)],
            _ => (0..8).fold(0, |n, _| n << 8 | u64::from(self.byte())),
        }
    }

    /// A float, most often an odd one.
    pub fn real(&mut self) -> f64 {
        const EDGES: [f64; 8] = [0.0, -1.0, 1e-6, f64::NAN, f64::INFINITY, 1e38, 10_000.0, -0.0];
        match self.byte() {
            b @ 0..200 => EDGES[usize::from(b % 8)],
            _ => f64::from_bits(self.number()),
        }
    }
}

/// A tensor as it goes to the file: what is declared need not be what is there.
#[derive(Clone)]
pub struct Bent {
    /// Its name, UTF-8 or not.
    pub name: Vec<u8>,
    /// Dimensions, fastest first.
    pub dims: Vec<u64>,
    /// The number of its type.
    pub ty: u32,
    /// Where its data is said to be.
    pub offset: u64,
    /// Its data.
    pub data: Vec<u8>,
}

/// The file that `program` makes of `base`: keys set, removed and retyped, tensors renamed, reshaped,
/// retyped, dropped and overwritten; then written as any other file.
pub fn bend(base: &[u8], program: &[u8]) -> Vec<u8> {
    let (mut metadata, mut tensors) = parts(base);
    let keys: Vec<String> = metadata.iter().map(|(k, _)| k.to_owned()).collect();
    let mut moved = Vec::new();
    let mut tape = Tape(program);
    while !tape.0.is_empty() && tensors.len() > 1 {
        let at = usize::from(tape.byte()) % tensors.len();
        match tape.byte() % 12 {
            0..4 => {
                let key = &keys[usize::from(tape.byte()) % keys.len()];
                let value = value(&mut tape, metadata.get(key));
                metadata.insert(key.clone(), value);
            }
            4 => {
                let gone = keys[usize::from(tape.byte()) % keys.len()].clone();
                metadata.remove(&gone);
            }
            5 => {
                let i = usize::from(tape.byte()) % tensors[at].dims.len();
                tensors[at].dims[i] = tape.number();
            }
            6 => tensors[at].ty = u32::from(tape.byte() % 48),
            7 => {
                let other = usize::from(tape.byte()) % tensors.len();
                tensors[at].name = tensors[other].name.clone();
            }
            8 => drop(tensors.remove(at)),
            9 => moved.push((at, tape.number())),
            _ => {
                let byte = tape.byte();
                let n = tensors[at].data.len().max(1);
                let begin = usize::try_from(tape.number() % n as u64).unwrap_or(0);
                tensors[at]
                    .data
                    .iter_mut()
                    .skip(begin)
                    .take(16)
                    .for_each(|b| *b = byte);
            }
        }
    }
    let mut offset = 0;
    for t in &mut tensors {
        // What fits its data is laid out as declared, so that it reaches the checks behind the parser.
        let declared = TensorType::from_id(t.ty).and_then(|ty| ty.tensor_bytes(&t.dims));
        if let Some(n) = declared.filter(|&n| n <= 1 << 18) {
            t.data.resize(n as usize, 0);
        }
        t.offset = offset;
        offset = (offset + t.data.len() as u64).next_multiple_of(32);
    }
    for (at, to) in moved {
        if let Some(t) = tensors.get_mut(at) {
            t.offset = to;
        }
    }
    write(&metadata, &tensors)
}

/// What the valid file `base` is made of.
pub fn parts(base: &[u8]) -> (Metadata, Vec<Bent>) {
    let file = Gguf::parse(base).unwrap();
    let tensors = file.tensors.iter().map(|t| as_is(base, t)).collect();
    (file.metadata, tensors)
}

/// A file whose tensors lie one behind the other.
#[allow(dead_code)] // for tests, not for targets
pub fn whole(metadata: &Metadata, tensors: &[Bent]) -> Vec<u8> {
    let mut tensors = tensors.to_vec();
    let mut offset = 0;
    for t in &mut tensors {
        t.offset = offset;
        offset = (offset + t.data.len() as u64).next_multiple_of(32);
    }
    write(metadata, &tensors)
}

fn as_is(base: &[u8], t: &TensorInfo) -> Bent {
    Bent {
        name: t.name.clone().into_bytes(),
        dims: t.dims().to_vec(),
        ty: t.ty.id(),
        offset: 0,
        data: base[t.offset as usize..(t.offset + t.n_bytes) as usize].to_vec(),
    }
}

/// Another value: most often of the type that was there.
fn value(tape: &mut Tape<'_>, was: Option<&Value>) -> Value {
    let kind = tape.byte();
    if kind < 160 {
        match was {
            Some(Value::U32(_)) => return Value::U32(tape.number() as u32),
            Some(Value::I32(_)) => return Value::I32(tape.number() as i32),
            Some(Value::F32(_)) => return Value::F32(tape.real() as f32),
            Some(Value::Array(Array::Strings(list))) => return Value::Array(strings(tape, list)),
            Some(Value::Array(Array::I32(list))) => {
                let mut list = list.clone();
                let at = usize::from(tape.byte()) % list.len().max(1);
                match (tape.byte() % 3, list.get_mut(at)) {
                    (0, _) => list.truncate(at),
                    (_, Some(x)) => *x = tape.number() as i32,
                    _ => {}
                }
                return Value::Array(Array::I32(list));
            }
            _ => {}
        }
    }
    match kind % 8 {
        0 => Value::U64(tape.number()),
        1 => Value::I64(tape.number() as i64),
        2 => Value::F64(tape.real()),
        3 => Value::Bool(tape.byte() & 1 == 1),
        4 => Value::U32(tape.number() as u32),
        5 => Value::Array(Array::U32(vec![
            tape.number() as u32;
            usize::from(tape.byte() % 4)
        ])),
        6 => Value::String(
            ["llama", "gpt2", "llada", "", "{{ x }}", "t5", "\u{0}", "none"][usize::from(tape.byte() % 8)]
                .into(),
        ),
        _ => Value::U8(tape.byte()),
    }
}

fn strings(tape: &mut Tape<'_>, list: &StringArray) -> Array {
    let at = usize::from(tape.byte()) % list.len().max(1);
    let edit = tape.byte() % 5;
    let other = usize::from(tape.byte()) % list.len().max(1);
    let mut bent = StringArray::new();
    for (i, s) in list.iter().enumerate() {
        match edit {
            0 if i >= at => break,
            1 if i == at => bent.push(list.get(other).unwrap_or_default()),
            2 if i == at => bent.push(&vec![b'a'; usize::from(tape.byte()) * 8]),
            3 if i == at => bent.push(&[0xFF, tape.byte(), b' ']),
            _ => bent.push(s),
        }
    }
    if edit == 4 {
        bent.push(b"one more");
    }
    Array::Strings(bent)
}

/// The container, without the writer's checks.
pub fn write(metadata: &Metadata, tensors: &[Bent]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put(&mut out, key.as_bytes());
        out.extend_from_slice(&value.type_id().to_le_bytes());
        put_value(&mut out, value);
    }
    for t in tensors {
        put(&mut out, &t.name);
        out.extend_from_slice(&(t.dims.len() as u32).to_le_bytes());
        t.dims
            .iter()
            .for_each(|d| out.extend_from_slice(&d.to_le_bytes()));
        out.extend_from_slice(&t.ty.to_le_bytes());
        out.extend_from_slice(&t.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32), 0);
    for t in tensors {
        out.extend_from_slice(&t.data);
        out.resize(out.len().next_multiple_of(32), 0);
    }
    out
}

fn put(out: &mut Vec<u8>, string: &[u8]) {
    out.extend_from_slice(&(string.len() as u64).to_le_bytes());
    out.extend_from_slice(string);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(x) => out.push(*x),
        Value::U32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::Bool(x) => out.push(u8::from(*x)),
        Value::U64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::String(x) => put(out, x.as_bytes()),
        Value::Array(array) => {
            out.extend_from_slice(&array.type_id().to_le_bytes());
            out.extend_from_slice(&(array.len() as u64).to_le_bytes());
            match array {
                Array::U32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
                Array::I32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
                Array::U8(v) => out.extend_from_slice(v),
                Array::F32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
                Array::Strings(v) => v.iter().for_each(|s| put(out, s)),
                other => unreachable!("the valid file has no array of type {}", other.type_id()),
            }
        }
        other => unreachable!("the valid file has no value of type {}", other.type_name()),
    }
}

/// Numbers that follow from a seed: splitmix64.
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Bytes that differ from `seed` in one to four places: flips, extremes, cuts, doubled and moved pieces.
pub fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + dice.below(32)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            2 => {
                let end = (at + dice.below(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            3 | 4 => {
                let value = [0u64, 1, u64::MAX, 1 << 63, 1 << 32, 1 << 30, 0x7F][dice.below(7)];
                let n = [1, 2, 4, 8][dice.below(4)];
                for (b, v) in bytes.iter_mut().skip(at).take(n).zip(value.to_le_bytes()) {
                    *b = v;
                }
            }
            _ => {
                let flip = 1u8 << dice.below(8);
                if let Some(b) = bytes.get_mut(at) {
                    *b ^= flip;
                }
            }
        }
    }
    bytes
}

/// JSON that differs from `seed` in one to three values: other types, extremes, gone, doubled, nested.
pub fn mutate_json(seed: &serde_json::Value, dice: &mut Dice) -> serde_json::Value {
    let mut whole = seed.clone();
    for _ in 0..=dice.below(3) {
        let mut at = &mut whole;
        // Down to a value by chance; half the time one of the outer ones.
        loop {
            let n = match &*at {
                serde_json::Value::Array(list) => list.len(),
                serde_json::Value::Object(map) => map.len(),
                _ => 0,
            };
            if n == 0 || dice.below(4) == 0 {
                break;
            }
            let i = dice.below(n);
            let below = match at {
                serde_json::Value::Array(list) => list.get_mut(i),
                serde_json::Value::Object(map) => map.values_mut().nth(i),
                _ => None,
            };
            match below {
                Some(value) => at = value,
                None => return whole,
            }
        }
        *at = match dice.below(12) {
            0 => serde_json::Value::Null,
            1 => (-1).into(),
            2 => u64::MAX.into(),
            3 => (1u64 << dice.below(40)).into(),
            4 => 1e308.into(),
            5 => "".into(),
            6 => "\u{0}\u{1b}[2J".into(),
            7 => "a".repeat(dice.below(5000)).into(),
            8 => serde_json::json!([]),
            9 => serde_json::json!({}),
            10 => (dice.below(2) == 0).into(),
            _ => (0..dice.below(40)).fold(at.clone(), |v, _| serde_json::json!([v])),
        };
    }
    whole
}
