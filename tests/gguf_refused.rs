//! What the container's reader and writer refuse, fault by fault, and how values read in words.

use std::path::Path;

use remask::ErrorKind::{self, *};
use remask::gguf::{Array, Gguf, Metadata, StringArray, TensorSpec, TensorType, Value, Writer, split_paths};

/// Bytes of a file, piece by piece.
#[derive(Clone, Default)]
struct File(Vec<u8>);

impl File {
    fn begin(n_tensors: u64, n_kv: u64) -> Self {
        Self(b"GGUF\x03\0\0\0".to_vec()).u64(n_tensors).u64(n_kv)
    }

    fn u32(mut self, x: u32) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(mut self, x: u64) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).raw(text)
    }

    /// A key, and the id of its value's type.
    fn key(self, key: &[u8], ty: u32) -> Self {
        self.string(key).u32(ty)
    }

    fn tensor(self, name: &[u8], dims: &[u64], ty: u32, offset: u64) -> Self {
        let begun = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(begun, |f, &d| f.u64(d)).u32(ty).u64(offset)
    }

    fn refused(self, kind: ErrorKind, why: &str) {
        let error = Gguf::parse(&self.0).expect_err(why);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.message().contains(why),
            "`{}` does not say `{why}`",
            error.message()
        );
    }
}

/// A file of one key.
fn one(key: &[u8], ty: u32) -> File {
    File::begin(0, 1).key(key, ty)
}

/// A file of one tensor and 64 bytes for its data.
fn tensor(name: &[u8], dims: &[u64], ty: u32, offset: u64) -> File {
    File::begin(1, 0).tensor(name, dims, ty, offset).raw(&[0; 128])
}

#[test]
fn a_beginning_of_another_kind_is_refused() {
    File::default()
        .raw(b"GGML\x03\0\0\0")
        .refused(Format, "does not begin with `GGUF`");
    File::default()
        .raw(b"GGUF\0\0\0\x03")
        .refused(Unsupported, "big-endian");
    File::default()
        .raw(b"GGUF\x01\0\0\0")
        .refused(Unsupported, "GGUF version 1");
    File::default()
        .raw(b"GG")
        .refused(Format, "ends inside the magic");
    File::begin(65_537, 0).refused(Limit, "65537 tensors");
    File::begin(0, 1 << 40).refused(Limit, "key-value pairs");
    File::begin(9, 0).refused(Format, "declares 9 tensors but has");
}

#[test]
fn keys_that_break_the_format_are_refused() {
    let with = |key: &[u8]| one(key, 0).raw(&[7; 16]);
    with(b"").refused(Format, "key 0 is empty");
    with(b"a\0b").refused(Format, "holds a NUL");
    with(b"\xFF").refused(Format, "key 0 is not UTF-8");
    with(&[b'a'; 65_536]).refused(Limit, "the limit is 65535");
    File::begin(0, 1)
        .u64(u64::MAX)
        .raw(&[0; 8])
        .refused(Format, "declares 18446744073709551615 bytes");
    let twice = File::begin(0, 2).key(b"k", 0).raw(&[1]).key(b"k", 0).raw(&[2]);
    twice.refused(Format, "key k is there twice");
    one(b"k", 13).raw(&[0; 8]).refused(Format, "type 13");
    one(b"k", 7).raw(&[2; 8]).refused(Format, "a bool of 2");
    one(b"k", 8)
        .string(b"\xC3\x28")
        .refused(Format, "key k is not UTF-8");
    one(b"k", 10).raw(&[0; 4]).refused(Format, "ends inside k");
}

#[test]
fn arrays_that_break_the_format_are_refused() {
    let of = |ty: u32, n: u64| one(b"k", 9).u32(ty).u64(n).raw(&[3; 16]);
    of(9, 1).refused(Format, "array of arrays");
    of(13, 1).refused(Format, "array of type 13");
    of(7, 2).refused(Format, "a bool of 3");
    for ty in [0, 1, 2, 3, 4, 5, 6, 10, 11, 12] {
        of(ty, 17).refused(Format, "declares 17 elements");
        of(ty, u64::MAX).refused(Format, "elements, but 16 bytes are left");
    }
    of(8, 3).refused(Format, "declares 3 strings");
    of(8, 1).refused(Format, "element 0 of key k");
    let many = (16 << 20) + 1;
    one(b"k", 9)
        .u32(0)
        .u64(many)
        .raw(&vec![0; many as usize])
        .refused(Limit, "the limit is 16777216");
    one(b"k", 9)
        .u32(8)
        .u64(many)
        .raw(&vec![0; 8 * many as usize])
        .refused(Limit, "the limit is 16777216");
    // As many strings as are allowed take more memory than all metadata may.
    let long = one(b"k", 9).u32(8).u64(16 << 20).raw(&vec![0; 8 * (16 << 20)]);
    long.refused(Limit, "the metadata takes more than");
}

#[test]
fn alignments_that_are_none_are_refused() {
    let key = b"general.alignment";
    one(key, 10).u64(32).refused(Format, "must be a u32");
    for bad in [0, 3, 1 << 17] {
        one(key, 4).u32(bad).refused(Format, "a power of two");
    }
    assert_eq!(Gguf::parse(&one(key, 4).u32(64).0).unwrap().alignment, 64);
}

#[test]
fn tensors_that_break_the_format_are_refused() {
    tensor(b"", &[1], 0, 0).refused(Format, "the name of tensor 0 is empty");
    tensor(&[b'a'; 64], &[1], 0, 0).refused(Format, "has 64 bytes; the limit is 63");
    tensor(b"t", &[], 0, 0).refused(Format, "has 0 dimensions");
    tensor(b"t", &[1; 5], 0, 0).refused(Format, "has 5 dimensions");
    tensor(b"t", &[0], 0, 0).refused(Format, "a dimension of 0");
    tensor(b"t", &[1 << 63], 0, 0).refused(Format, "it must be 1 to 2^63 - 1");
    tensor(b"t", &[1], 4, 0).refused(Unsupported, "is of type 4");
    tensor(b"t", &[33], 8, 0).refused(Format, "do not divide into Q8_0 blocks of 32");
    tensor(b"t", &[1 << 40, 1 << 40], 0, 0).refused(Format, "overflows");
    tensor(b"t", &[1], 0, 1).refused(Format, "is not a multiple of 32");
    tensor(b"t", &[1], 0, u64::MAX - 31).refused(Format, "beyond any file");
    tensor(b"t", &[64], 0, 0).refused(Format, "may be cut short");
    let pair = |name: &[u8], offset| {
        let first = File::begin(2, 0).tensor(b"t", &[8], 0, 32);
        first.tensor(name, &[8], 0, offset).raw(&[0; 128])
    };
    pair(b"t", 64).refused(Format, "tensor t is listed twice");
    pair(b"u", 32).refused(Format, "overlaps what ends at");
    pair(b"u", 0).refused(Format, "overlaps what ends at");
    assert!(Gguf::parse(&pair(b"u", 64).0).is_ok());
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let spec = |name: &str, dims: &[u64], ty| TensorSpec {
        name: name.into(),
        dims: dims.to_vec(),
        ty,
    };
    let refused = |metadata: &Metadata, tensors: Vec<TensorSpec>, path: &Path, why: &str| {
        let error = Writer::create(path, metadata, tensors, true).err().expect(why);
        assert_eq!(error.kind(), InvalidArgument, "{error}");
        assert!(error.message().contains(why), "{error}");
    };
    let none = Metadata::new();
    let with = |key: &str, value: Value| {
        let mut m = Metadata::new();
        m.insert(key, value);
        m
    };
    refused(&none, Vec::new(), folder.path(), "is a folder");
    #[cfg(target_os = "linux")]
    refused(&none, Vec::new(), Path::new("/dev/null"), "is no regular file");
    for key in ["", "a\0b", &"a".repeat(65_536)] {
        refused(&with(key, 1u8.into()), Vec::new(), &path, "is empty, too long or");
    }
    let long = "a".repeat((16 << 20) + 1);
    refused(&with("k", long.into()), Vec::new(), &path, "is too long");
    for bad in [Value::U32(3), Value::U32(1 << 17), Value::U64(32)] {
        refused(
            &with("general.alignment", bad),
            Vec::new(),
            &path,
            "a power of two",
        );
    }
    let mut many = Metadata::new();
    (0..65_537).for_each(|i| many.insert(format!("k{i}"), 1u8));
    refused(&many, Vec::new(), &path, "65537 keys");
    let f32s = |name: &str| spec(name, &[8], TensorType::F32);
    refused(&none, vec![f32s(""); 65_537], &path, "65537 tensors");
    for name in ["", "a\0b", &"a".repeat(64)] {
        refused(&none, vec![f32s(name)], &path, "is empty, too long or");
    }
    refused(&none, vec![f32s("t"), f32s("t")], &path, "announced twice");
    for dims in [&[][..], &[0], &[1; 5], &[33], &[1 << 60, 1 << 60]] {
        refused(
            &none,
            vec![spec("t", dims, TensorType::Q8_0)],
            &path,
            "cannot be Q8_0 of",
        );
    }
    let huge = |name: &str| spec(name, &[1 << 62], TensorType::I8);
    let four = ["a", "b", "c", "d"].map(huge).to_vec();
    refused(&none, four, &path, "size overflows");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut writer = Writer::create(&path, &none, vec![f32s("t")], false).unwrap();
    let mut why = |name: &str, n: usize| writer.write_tensor(name, &vec![0; n]).map_err(|e| e.to_string());
    assert!(why("u", 32).unwrap_err().contains("comes where t was announced"));
    assert!(why("t", 31).unwrap_err().contains("32 were announced"));
    why("t", 32).unwrap();
    assert!(
        why("t", 32)
            .unwrap_err()
            .contains("comes after the last one announced")
    );
    assert!(
        writer
            .write_chunk(&[0])
            .unwrap_err()
            .message()
            .contains("beyond the end")
    );
    writer.finish().unwrap();
    assert_eq!(
        Gguf::parse(&std::fs::read(&path).unwrap()).unwrap().tensors.len(),
        1
    );
    let nowhere = folder.path().join("none/x.gguf");
    let error = Writer::create(&nowhere, &none, Vec::new(), false)
        .err()
        .expect("there is no folder");
    assert_eq!(error.kind(), Io);
}

/// One value of every kind, and how it is shown.
fn every_value() -> Vec<(Value, &'static str, &'static str)> {
    let strings: StringArray = [&b"a\"b"[..], b"\xFF"].iter().collect();
    vec![
        (1u8.into(), "a u8", "1"),
        ((-1i8).into(), "an i8", "-1"),
        (2u16.into(), "a u16", "2"),
        ((-2i16).into(), "an i16", "-2"),
        (3u32.into(), "a u32", "3"),
        ((-3i32).into(), "an i32", "-3"),
        (0.5f32.into(), "an f32", "0.5"),
        (true.into(), "a bool", "true"),
        ("x".into(), "a string", "x"),
        (4u64.into(), "a u64", "4"),
        ((-4i64).into(), "an i64", "-4"),
        (0.25f64.into(), "an f64", "0.25"),
        (Array::U8(vec![1, 2]).into(), "an array of integers", "[1,2]"),
        (Array::I8(vec![-1]).into(), "an array of integers", "[-1]"),
        (Array::U16(vec![]).into(), "an array of integers", "[]"),
        (Array::I16(vec![-2]).into(), "an array of integers", "[-2]"),
        (Array::U32(vec![3]).into(), "an array of integers", "[3]"),
        (Array::I32(vec![-3]).into(), "an array of integers", "[-3]"),
        (Array::F32(vec![0.5]).into(), "an array of floats", "[0.5]"),
        (
            Array::Bool(vec![true, false]).into(),
            "an array of bools",
            "[true,false]",
        ),
        (strings.into(), "an array of strings", "[\"a\\\"b\",\"\u{FFFD}\"]"),
        (Array::U64(vec![4]).into(), "an array of integers", "[4]"),
        (Array::I64(vec![-4]).into(), "an array of integers", "[-4]"),
        (Array::F64(vec![0.25]).into(), "an array of floats", "[0.25]"),
    ]
}

#[test]
fn every_kind_of_value_is_written_read_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut m = Metadata::new();
    for (i, (value, name, shown)) in every_value().into_iter().enumerate() {
        assert_eq!((value.type_name(), value.to_string().as_str()), (name, shown));
        m.insert(format!("k{i}"), value);
    }
    assert!(!m.is_empty());
    Writer::create(&path, &m, Vec::new(), false)
        .unwrap()
        .finish()
        .unwrap();
    let read = Gguf::parse(&std::fs::read(&path).unwrap()).unwrap().metadata;
    for ((key, value), (_, before)) in read.iter().zip(m.iter()) {
        assert_eq!(value, before, "{key}");
        if let (Value::Array(a), Value::Array(b)) = (value, before) {
            assert_eq!((a.len(), a.is_empty()), (b.len(), b.is_empty()));
        }
    }
}

#[test]
fn a_value_is_taken_as_what_it_is() {
    let mut m = Metadata::new();
    for (i, (value, ..)) in every_value().into_iter().enumerate() {
        m.insert(format!("k{i}"), value);
    }
    let keys: Vec<String> = m.iter().map(|(k, _)| k.to_owned()).collect();
    // Which of them each way of reading takes, by place.
    let taken =
        |read: &dyn Fn(&str) -> bool| -> Vec<usize> { (0..keys.len()).filter(|&i| read(&keys[i])).collect() };
    let none = "absent";
    assert_eq!(taken(&|k| m.u64(k).is_ok()), [0, 2, 4, 9]);
    assert_eq!(taken(&|k| m.u32(k).is_ok()), [0, 2, 4, 9]);
    assert_eq!(taken(&|k| m.i32(k).is_ok()), [0, 1, 2, 3, 4, 5, 9, 10]);
    assert_eq!(taken(&|k| m.f32(k).is_ok()), [6, 11]);
    assert_eq!(taken(&|k| m.bool(k).is_ok()), [7]);
    assert_eq!(taken(&|k| m.str(k).is_ok()), [8]);
    assert_eq!(taken(&|k| m.strings(k).is_ok()), [20]);
    assert_eq!(taken(&|k| m.i32s(k).is_ok()), [12, 13, 14, 15, 16, 17, 21, 22]);
    assert!(m.f32(none).unwrap().is_none() && m.bool(none).unwrap().is_none());
    assert!(m.str(none).unwrap().is_none() && m.strings(none).unwrap().is_none());
    assert!(m.i32s(none).unwrap().is_none() && m.remove(none).is_none());
    m.insert("wide", Array::U64(vec![1, u64::MAX]));
    let error = m.i32s("wide").unwrap_err();
    assert!(error.message().contains("does not fit 32 bits"), "{error}");
    m.insert("wide", 7u8);
    assert_eq!(m.u64("wide").unwrap(), Some(7));
    let strings = StringArray::new();
    assert!(strings.is_empty() && strings.get(0).is_none());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let part = |no: u64, count: u64, name: &str, total: u64| {
        let f = File::begin(1, 3).key(b"split.no", 10).u64(no);
        let f = f.key(b"split.count", 10).u64(count);
        let f = f.key(b"split.tensors.count", 10).u64(total);
        Gguf::parse(&f.tensor(name.as_bytes(), &[8], 0, 0).raw(&[0; 128]).0).unwrap()
    };
    let why = |parts: Vec<Gguf>| Gguf::join(parts).unwrap_err().to_string();
    assert!(why(Vec::new()).contains("no parts"));
    assert!(why(vec![part(0, 2, "a", 2), part(0, 2, "b", 2)]).contains("part 2 of 2 says"));
    assert!(why(vec![part(0, 2, "a", 2), part(1, 3, "b", 2)]).contains("part 2 of 2 says"));
    assert!(why(vec![part(0, 2, "a", 2), part(1, 2, "a", 2)]).contains("tensor a is in two parts"));
    assert!(why(vec![part(0, 2, "a", 3), part(1, 2, "b", 3)]).contains("hold 2 tensors"));
    let whole = Gguf::join(vec![part(0, 2, "a", 2), part(1, 2, "b", 2)]).unwrap();
    assert_eq!(whole.tensor("b").unwrap().file, 1);

    let paths = |name: &str, no: u64, count: u64| {
        split_paths(Path::new(name), &part(no, count, "a", 1).metadata).map_err(|e| e.to_string())
    };
    assert!(paths("x.gguf", 0, 1).unwrap().is_empty());
    assert!(paths("x.gguf", 0, 2).unwrap_err().contains("does not end in"));
    assert!(
        paths("x-00002-of-00002.gguf", 1, 2)
            .unwrap_err()
            .contains("open the first part")
    );
    assert!(paths("x.gguf", 2, 2).unwrap_err().contains("split.no is 2"));
    assert!(
        paths("x.gguf", 0, 1025)
            .unwrap_err()
            .contains("the limit is 1024")
    );
    let found = paths("d/x-00001-of-00003.gguf", 0, 3).unwrap();
    assert_eq!(
        found,
        [
            Path::new("d/x-00002-of-00003.gguf"),
            Path::new("d/x-00003-of-00003.gguf")
        ]
    );
}
