//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use remask::device::{DeviceChoice, SplitMode};
use remask::{Flash, LoadOptions, Residence, SessionOptions, Verify};

pub use crate::policy::PolicyArgs;

/// Run masked-diffusion language models from one file.
#[derive(Parser)]
#[command(
    name = "remask",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  remask generate -m model.gguf -p \"Why is the sky blue?\" --visual
  remask infill -m model.gguf \"The [[4]] sat on the [[3]].\"
  remask chat -m model.gguf
  remask inspect model.gguf
  remask convert LLaDA-8B-Instruct/ -o llada-8b-q4.gguf --type q4_k_m")]
pub struct Cli {
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Write a response to a prompt
    Generate(GenerateArgs),
    /// Fill the holes of a text
    Infill(InfillArgs),
    /// Talk with a model
    Chat(ChatArgs),
    /// Show what a model file holds
    Inspect(InspectArgs),
    /// Make a model file from a Hugging Face checkpoint
    Convert(ConvertArgs),
    /// Make a model file smaller
    Quantize(QuantizeArgs),
    /// Make a Hugging Face checkpoint from a model file
    Export(ExportArgs),
    /// Collect the importance of columns, for `quantize --imatrix`
    Imatrix(ImatrixArgs),
    /// Measure what a smaller file of a model costs
    Compare(CompareArgs),
    /// Measure the time of a step
    Bench(BenchArgs),
    /// List the devices that can compute
    Devices(DevicesArgs),
    /// Lend this machine's devices to remask on other machines, which name them --device rpc://HOST:PORT
    ///
    /// Nothing is encrypted and nobody is asked who he is: for networks where all are trusted.
    #[cfg(feature = "rpc")]
    Worker(WorkerArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The model and where it runs.
#[derive(Args)]
pub struct ModelArgs {
    /// Model file (.gguf; of a split model the first part)
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// Threads on the CPU [default: one per physical core]
    #[arg(
        short = 't',
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "N"
    )]
    pub threads: usize,
    /// Where layers live: auto, cpu, or names from `remask devices`, with commas between them; in builds
    /// with `rpc` also rpc://HOST:PORT of a `remask worker`
    #[arg(long, default_value = "auto", value_name = "NAMES")]
    pub device: String,
    /// So many layers on the device, the last ones [default: as many as fit]
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<usize>,
    /// Shares of the layers, or of each tensor, for several devices, such as 3,1 [default: by free memory]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub split: Vec<f64>,
    /// What several devices divide between them
    #[arg(long, value_enum, default_value_t = SplitModeArg::Layers)]
    pub split_mode: SplitModeArg,
    /// Attention in one pass, without its score matrix
    #[arg(long, value_enum, default_value_t = FlashArg::Auto)]
    pub flash: FlashArg,
    /// Read the file instead of mapping it
    #[arg(long)]
    pub read: bool,
    /// A tokenizer.json to use in place of the file's own tokenizer
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// When weights are checked to be finite numbers
    #[arg(long, value_enum, default_value_t = VerifyArg::FirstUse)]
    pub verify: VerifyArg,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FlashArg {
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SplitModeArg {
    /// Each has some layers, and a step goes through one after the other
    Layers,
    /// Each has a part of every layer, and all compute at once; for two or more GPUs of one kind
    Tensors,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum VerifyArg {
    /// Before the first run
    FirstUse,
    /// When the model is opened
    Load,
    /// Not at all
    Never,
}

/// How results are shown.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// Show the canvas at every step
    #[arg(long, conflicts_with = "json")]
    pub visual: bool,
    /// Wait after each drawing, to watch a fast model
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        hide_default_value = true,
        requires = "visual"
    )]
    pub delay: u64,
    /// One JSON object per event and line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  remask generate -m model.gguf -p \"Why is the sky blue?\" -n 128 --visual
  remask generate -m model.gguf -f question.txt --steps 32 --json
  remask generate -m base.gguf --raw -p \"Once upon a time\" --temperature 0.7 --seed 3

The prompt goes through the model's chat template, if it has one; --raw leaves it as it is.")]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The prompt
    #[arg(
        short,
        long,
        value_name = "TEXT",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub prompt: Option<String>,
    /// Read the prompt from a file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the model is told to be
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// No chat template
    #[arg(long)]
    pub raw: bool,
    /// Tokens of the response
    #[arg(short = 'n', long, default_value_t = 128, value_name = "N")]
    pub gen_length: usize,
    /// Fill all slots, also behind the end of the text
    #[arg(long)]
    pub full: bool,
    /// End the response before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Args)]
#[command(after_help = "Examples:
  remask infill -m model.gguf \"The [[4]] sat on the [[3]].\"
  remask infill -m model.gguf \"She said [[...]] and left.\" --max-hole 12

[[4]] is a hole of 4 tokens; [[...]] one of the length, up to --max-hole, of which the model is
surest at first sight; [[[[ stands for two brackets.")]
pub struct InfillArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text, with holes
    pub text: String,
    /// Longest length tried for [[...]]
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub max_hole: usize,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Args)]
#[command(after_help = "Inside: /help lists the commands. Ctrl-C stops an answer, Ctrl-D ends the chat.")]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the model is told to be
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens of an answer
    #[arg(short = 'n', long, default_value_t = 128, value_name = "N")]
    pub gen_length: usize,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Show the canvas at every step
    #[arg(long)]
    pub visual: bool,
}

#[derive(Args)]
pub struct InspectArgs {
    /// Model file
    pub file: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Canvas length that the memory estimate is for
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub canvas: usize,
}

/// How tensors are packed.
#[derive(Args)]
#[command(next_help_heading = "Types")]
pub struct PackArgs {
    /// Another type for the matrices whose name fits; may be repeated, the first that fits counts
    #[arg(long, value_name = "REGEX=TYPE")]
    pub tensor_type: Vec<String>,
    /// One type for all matrices, without the rules of the mix
    #[arg(long)]
    pub pure: bool,
    /// Weights for the columns, from `remask imatrix` or llama.cpp
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Print what each tensor would become, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Threads [default: one per physical core]
    #[arg(
        short = 't',
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "N"
    )]
    pub threads: usize,
    /// Replace an existing output
    #[arg(long)]
    pub force: bool,
}

/// What types there are, for the help of two commands.
const TYPES: &str = "Types, from large to small:
  f32 f16 bf16 q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs
  q3_k_l q3_k_m q3_k_s q2_k";

#[derive(Args)]
#[command(after_help = format!("Examples:
  remask convert LLaDA-8B-Instruct/ -o llada-8b.gguf
  remask convert LLaDA-8B-Instruct/ -o llada-8b-q4.gguf --type q4_k_m

{TYPES}"))]
pub struct ConvertArgs {
    /// Folder with config.json, tokenizer.json and safetensors
    pub dir: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Type of matrices
    #[arg(long = "type", default_value = "f16", value_name = "TYPE")]
    pub ty: String,
    /// Name that the file gives the model [default: the folder's]
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub pack: PackArgs,
}

#[derive(Args)]
#[command(override_usage = "remask quantize [OPTIONS] <INPUT> <OUTPUT> <TYPE>\n       \
remask quantize --dry-run [OPTIONS] <INPUT> <TYPE>")]
#[command(after_help = format!("Examples:
  remask quantize llada-8b.gguf llada-8b-q4.gguf q4_k_m
  remask quantize llada-8b.gguf small.gguf q4_k_m --imatrix llada-8b.imatrix.gguf
  remask quantize llada-8b.gguf mixed.gguf q4_0 --tensor-type 'ffn_down=q6_k'
  remask quantize --dry-run llada-8b.gguf q4_k_m

{TYPES}"))]
pub struct QuantizeArgs {
    /// Model file, F16, BF16 or F32 (of a split model the first part)
    pub input: PathBuf,
    /// OUTPUT and TYPE; with --dry-run TYPE alone
    #[arg(required = true, num_args = 1..=2, value_names = ["OUTPUT", "TYPE"])]
    pub rest: Vec<String>,
    /// Take tensors that are quantized already; they lose twice
    #[arg(long)]
    pub requantize: bool,
    #[command(flatten)]
    pub pack: PackArgs,
}

#[derive(Args)]
#[command(after_help = "Example:
  remask export model.gguf checkpoint/

The folder can be loaded by the authors' modeling_llada.py (beside which it must lie, or with the
auto_map of its config.json). F32, F16 and BF16 files can be exported; quantized ones are refused.")]
pub struct ExportArgs {
    /// Model file
    pub input: PathBuf,
    /// Folder to write
    pub dir: PathBuf,
    /// Write into a folder that holds files, replacing those of the same names
    #[arg(long)]
    pub force: bool,
}

/// Texts to run a model on.
#[derive(Args)]
#[command(next_help_heading = "Texts")]
pub struct TextsArgs {
    /// JSON lines: {"text": ...} or {"prompt": ..., "response": ...}
    #[arg(long, value_name = "FILE.jsonl")]
    pub data: PathBuf,
    /// Tokens of a canvas; longer texts are cut, longer pairs passed over [default: 256, or what the
    /// model takes]
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// At most so many canvases, from the beginning of the file
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub samples: usize,
    /// Masked versions of each canvas, their mask ratios spread evenly
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub ratios: usize,
    /// Seed of the masks
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

#[derive(Args)]
#[command(after_help = "Examples:
  remask imatrix -m llada-8b.gguf --data texts.jsonl -o llada-8b.imatrix.gguf
  remask quantize llada-8b.gguf small.gguf q4_k_m --imatrix llada-8b.imatrix.gguf

The activations are those that a mask predictor has: of canvases masked at ratios from none to
all, and of canvases half written by the model itself. The file has llama.cpp's format.")]
pub struct ImatrixArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub texts: TextsArgs,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Steps in which half of each canvas (the response of a pair) is denoised; 0 is not at all
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub denoise_steps: usize,
    /// The head too, which llama.cpp leaves out
    #[arg(long)]
    pub head: bool,
    /// Add to what another file collected; may be repeated
    #[arg(long, value_name = "FILE")]
    pub merge: Vec<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
#[command(after_help = "Example:
  remask compare llada-8b.gguf llada-8b-q4.gguf --data texts.jsonl

KL is the divergence of B's predictions from A's at masked slots; agreement, how often both hold
the same token for the likeliest; the bound, minus the log-likelihood in nats per token. All are
means over canvases with their standard errors.")]
pub struct CompareArgs {
    /// The model
    pub a: PathBuf,
    /// A smaller file of it
    pub b: PathBuf,
    #[command(flatten)]
    pub texts: TextsArgs,
    /// Canvases whose second half (the response of a pair) both models write greedily
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub generations: usize,
    /// Steps of such a generation; 0 is one per token
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub steps: usize,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Threads on the CPU [default: one per physical core]
    #[arg(
        short = 't',
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "N"
    )]
    pub threads: usize,
    /// Where layers live: auto, cpu, or a name from `remask devices`
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub device: String,
}

#[derive(Args)]
#[command(mut_arg("model", |a| a.required(false).default_value("-").hide_default_value(true)))]
#[command(after_help = "Examples:
  remask bench -m model.gguf --canvas 512 --rows 32
  remask bench --synthetic 8b --type q4_k_m
  remask bench -m model.gguf --against \"./remask-before bench\"
  remask bench -m model.gguf --prompts 32,64 --answers 96,448
  remask bench -m model.gguf --data questions.jsonl --policy \"--cache dual --threshold 0.9\" --csv

One step is measured: its median time, where it goes, and what the machine would need for the
arithmetic and for the reading of weights alone. Waits for other threads count to the part after them.

With --answers whole answers are measured, of each length under every policy, in turn. Their prompts
mean nothing: of quality see --data, where every prompt is answered under every policy and compared
with the exact answer and with the expected one. Tokens are counted up to the end of the text.")]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure a made-up model: 6m, 125m, 1b, 8b, or layers=12,width=768,ff=2048,heads=12,kv=12,...
    #[arg(long, value_name = "SHAPE", conflicts_with = "data")]
    pub synthetic: Option<String>,
    /// The types of its weights, as `remask quantize` has them
    #[arg(
        long = "type",
        default_value = "q4_k_m",
        value_name = "MIX",
        requires = "synthetic"
    )]
    pub mix: String,
    /// Keep its file under this name
    #[arg(long, value_name = "FILE", requires = "synthetic")]
    pub keep: Option<PathBuf>,
    /// Run this command in turn, with the same options and --json: another build, \"PROGRAM bench\"
    #[arg(long, value_name = "COMMAND", conflicts_with = "data")]
    pub against: Option<String>,
    /// Products with these instructions alone, or all by ggml: avx2, avxvnni, avx512vnni, neon, neondot,
    /// neoni8mm, ggml [default: the fastest of this processor]
    #[arg(long, value_name = "NAME")]
    pub kernels: Option<String>,
    /// Slots of the canvas
    #[arg(long, default_value_t = 128, value_name = "N", conflicts_with = "data")]
    pub canvas: usize,
    /// Masked slots whose logits are computed
    #[arg(long, default_value_t = 32, value_name = "N", conflicts_with = "data")]
    pub rows: usize,
    /// Steps measured, after two that are not
    #[arg(long, default_value_t = 20, value_name = "N", conflicts_with = "data")]
    pub steps: usize,
    #[command(flatten)]
    pub lengths: LengthsArgs,
    #[command(flatten)]
    pub runs: RunStepsArgs,
    /// JSON lines {"prompt": ..., "response": ...}: measure answers to these
    #[arg(long, value_name = "FILE.jsonl")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub answers: AnswersArgs,
    /// JSON: one object, or one per line of the table
    #[arg(long)]
    pub json: bool,
}

/// Steps of runs, beside what the machine could do at best.
#[derive(Args)]
#[command(next_help_heading = "Steps of runs")]
pub struct RunStepsArgs {
    /// Slots of a block: measure the steps of runs, exact and with a cache of the block (dual)
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with_all = ["data", "answers", "against"])]
    pub blocks: Vec<usize>,
    /// Canvases that are filled together
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1], requires = "blocks")]
    pub batch: Vec<usize>,
    /// 10^9 bytes per second that the device reads: the floor by memory
    #[arg(long, value_name = "GB/S", requires = "blocks", value_parser = seconds)]
    pub bandwidth: Option<f64>,
    /// 10^12 operations per second of the device's matrix products: the floor by arithmetic
    #[arg(long, value_name = "TFLOPS", requires = "blocks", value_parser = seconds)]
    pub tflops: Option<f64>,
}

/// Whole answers of given lengths.
#[derive(Args)]
#[command(next_help_heading = "Answers of given lengths")]
pub struct LengthsArgs {
    /// Slots of the answers: measure whole answers instead of a step
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "data")]
    pub answers: Vec<usize>,
    /// Tokens of the prompts
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [32], conflicts_with = "data")]
    pub prompts: Vec<usize>,
    /// Times that each is measured; with --against, that each command is run
    #[arg(long, default_value_t = 3, value_name = "N", conflicts_with = "data", value_parser = positive)]
    pub rounds: usize,
    /// Leave an answer after a block when it has taken so long; the rest of it is then estimated
    #[arg(long, value_name = "S", requires = "answers", value_parser = seconds)]
    pub seconds: Option<f64>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("must be 1 or more".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s.is_finite() => Ok(s),
        _ => Err("must be a number above 0".into()),
    }
}

/// Whole answers under several policies.
#[derive(Args)]
#[command(next_help_heading = "Answers to given prompts")]
pub struct AnswersArgs {
    /// At most so many prompts, from the beginning of the file
    #[arg(long, default_value_t = 32, value_name = "N", requires = "data")]
    pub samples: usize,
    /// Slots of an answer
    #[arg(short = 'n', long, default_value_t = 64, value_name = "N", requires = "data")]
    pub gen_length: usize,
    /// Tokens per block
    #[arg(short, long, default_value_t = 32, value_name = "N")]
    pub block_length: usize,
    /// No chat template
    #[arg(long, requires = "data")]
    pub raw: bool,
    /// Masked canvases by which the likelihood of each answer is estimated, under the exact model; 0: not
    #[arg(long, default_value_t = 0, value_name = "N", requires = "data")]
    pub likelihood: usize,
    /// Flags of a policy, as `remask generate` has them; may be repeated [default: a list]
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub policy: Vec<String>,
    /// Comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

#[derive(Args)]
pub struct DevicesArgs {
    /// One JSON object per device and line
    #[arg(long)]
    pub json: bool,
}

#[cfg(feature = "rpc")]
#[derive(Args)]
pub struct WorkerArgs {
    /// IPv4 address and port to listen at; port 0 is any free one
    #[arg(long, default_value = "127.0.0.1:50052", value_name = "ADDR:PORT")]
    pub bind: std::net::SocketAddrV4,
    /// The devices to lend: auto (the GPUs, else the CPU), cpu, or names from `remask devices`
    #[arg(long, default_value = "auto", value_name = "NAMES")]
    pub device: String,
    /// Threads on the CPU [default: one per physical core]
    #[arg(
        short = 't',
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "N"
    )]
    pub threads: usize,
    /// Listen also where other machines can connect: whoever can reach the address controls this process
    #[arg(long)]
    pub i_trust_this_network: bool,
}

/// `auto`, `cpu` or a device's name.
pub fn device_choice(name: &str) -> DeviceChoice {
    match name {
        "auto" => DeviceChoice::Auto,
        name if name.eq_ignore_ascii_case("cpu") => DeviceChoice::Cpu,
        name => DeviceChoice::Named(name.to_owned()),
    }
}

impl ModelArgs {
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            residence: if self.read {
                Residence::Read
            } else {
                Residence::Map
            },
            verify: match self.verify {
                VerifyArg::FirstUse => Verify::FirstUse,
                VerifyArg::Load => Verify::Load,
                VerifyArg::Never => Verify::Never,
            },
            device: device_choice(&self.device),
            gpu_layers: self.gpu_layers,
            split: self.split.clone(),
            split_mode: match self.split_mode {
                SplitModeArg::Layers => SplitMode::Layers,
                SplitModeArg::Tensors => SplitMode::Tensors,
            },
            tokenizer: self.tokenizer.clone(),
        }
    }

    pub fn session_options(&self) -> SessionOptions {
        let flash = match self.flash {
            FlashArg::Auto => Flash::Auto,
            FlashArg::On => Flash::On,
            FlashArg::Off => Flash::Off,
        };
        SessionOptions {
            n_threads: self.threads,
            flash,
            max_canvas: 0,
        }
    }
}
