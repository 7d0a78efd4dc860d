// A server's step: prefill and decode in one batch, paged FP8 cache, sliding and full layers, and a rule of its own for every
// request. The prefix that two requests share is stored once and read at two places of their texts. Nothing here needs a CUDA
// header.
//
// Runs its steps on the cpu and on the reference backend and compares what the layers return. Exit 0 if they agree.
#include <spindle/spindle.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace {

constexpr int kHeads = 8, kKvHeads = 2, kDim = 64, kPage = 16, kPages = 64, kSlots = 8, kRequests = 4, kRows = 64, kTable = 32;

void check(spindle_status status) {
  if (status != SPINDLE_OK) throw std::runtime_error(spindle_last_error());
}

template <class T>
T make() {
  T t{};
  t.struct_size = sizeof t;
  return t;
}

// Device memory of one type, freed with its context.
template <class T>
class Buffer {
 public:
  Buffer(spindle_context *context, size_t count) : context_(context), count_(count) {
    void *memory;
    check(spindle_malloc(context, &memory, count * sizeof(T)));
    data_ = static_cast<T *>(memory);
  }
  ~Buffer() { spindle_free(context_, data_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  T *data() const { return data_; }
  void upload(const std::vector<T> &from) { check(spindle_copy(context_, data_, from.data(), from.size() * sizeof(T), nullptr)); }
  std::vector<T> download() const {
    std::vector<T> to(count_);
    check(spindle_copy(context_, to.data(), data_, count_ * sizeof(T), nullptr));
    return to;
  }

 private:
  spindle_context *context_;
  size_t count_;
  T *data_;
};

// A plan for one kind of layer, with the state that its prepare fills.
class Plan {
 public:
  Plan(spindle_context *context, const spindle_shape &shape) {
    auto bounds = make<spindle_plan_options>();
    bounds.max_requests = kRequests;
    bounds.max_q_rows = kRows;
    bounds.page_size = kPage;
    bounds.max_kv_len = kTable * kPage;
    bounds.remap_set = 1u << SPINDLE_REMAP_NONE | 1u << SPINDLE_REMAP_REROPE;
    check(spindle_plan_create(&plan_, context, &shape, &bounds));
    check(spindle_plan_workspace(plan_, &state_bytes_, &scratch_bytes_));
    check(spindle_positions_create(&positions_, context, &shape, kSlots));
    context_ = context;
    check(spindle_malloc(context, &state_, state_bytes_));
    check(spindle_malloc(context, &scratch_, scratch_bytes_));
  }
  ~Plan() {
    spindle_free(context_, state_);
    spindle_free(context_, scratch_);
    spindle_positions_destroy(positions_);
    spindle_plan_destroy(plan_);
  }
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
  void set(int slot, const spindle_position &position) { check(spindle_positions_set(positions_, slot, &position, nullptr)); }
  void prepare(const spindle_batch &batch) {
    check(spindle_plan_prepare(plan_, positions_, &batch, state_, state_bytes_, nullptr));
  }
  void run(spindle_attention_args args) {
    args.scratch = scratch_;
    args.scratch_bytes = scratch_bytes_;
    check(spindle_attention(plan_, &args, nullptr));
  }

 private:
  spindle_context *context_;
  spindle_plan *plan_ = nullptr;
  spindle_positions *positions_ = nullptr;
  void *state_ = nullptr, *scratch_ = nullptr;
  size_t state_bytes_ = 0, scratch_bytes_ = 0;
};

struct Request {
  int q_begin, q_len, kv_len;
  int64_t q_index;
  int slot;
  std::vector<int> pages;            // table entries
  std::vector<int64_t> index;        // of slot 0 of each
  std::vector<unsigned> first, end;  // valid slots of each
};

class Server {
 public:
  explicit Server(spindle_context *context)
      : context_(context),
        shape_(layer_shape()),
        full_(context, shape_),
        sliding_(context, shape_),
        q_begin_(context, kRequests),
        q_len_(context, kRequests),
        kv_len_(context, kRequests),
        slot_of_(context, kRequests),
        pages_(context, kRequests * kTable),
        q_index_(context, kRequests),
        page_index_(context, kRequests * kTable),
        page_span_(context, kRequests * kTable),
        slots_(context, kRows),
        q_(context, kRows * kHeads * kDim),
        k_new_(context, kRows * kKvHeads * kDim),
        v_new_(context, kRows * kKvHeads * kDim),
        o_(context, kRows * kHeads * kDim),
        k_(context, kPages * kPage * kKvHeads * kDim),
        v_(context, kPages * kPage * kKvHeads * kDim),
        sinks_(context, kHeads),
        scale_(context, kKvHeads) {
    sinks_.upload({0.5f, -1, 0, 1, 2, -2, 0, 0.25f});
    scale_.upload({0.03f, 0.02f});
  }

  // A request comes with its own factor; its slot is written between two steps, at an address that never changes.
  void admit(int slot, double yarn_factor, bool rerope) {
    auto p = make<spindle_position>();
    p.rope = yarn_factor > 1 ? SPINDLE_ROPE_YARN : SPINDLE_ROPE_DEFAULT;
    p.rope_theta = 150000;
    if (yarn_factor > 1) {
      p.factor = yarn_factor;
      p.original_max_position_embeddings = 4096;
      p.no_truncate = 1;
    }
    if (rerope) {
      p.remap = SPINDLE_REMAP_REROPE;
      p.remap_window = 24;
    }
    full_.set(slot, p);
    p.window_left = 20;
    sliding_.set(slot, p);
  }

  // Appends `rows` new keys, then one full and one sliding layer. Returns both outputs.
  std::vector<float> step(const std::vector<Request> &requests, int rows, const std::vector<int64_t> &slots, unsigned seed) {
    upload(requests);
    slots_.upload(slots);
    q_.upload(noise(rows * kHeads * kDim, seed));
    k_new_.upload(noise(rows * kKvHeads * kDim, seed + 1));
    v_new_.upload(noise(rows * kKvHeads * kDim, seed + 2));
    spindle_batch b = batch();
    full_.prepare(b);
    sliding_.prepare(b);
    append(rows);
    std::vector<float> all;
    for (Plan *plan : {&full_, &sliding_}) {
      o_.upload(std::vector<float>(kRows * kHeads * kDim, 0.0f));  // rows of no request stay as they are
      plan->run(arguments(rows));
      std::vector<float> o = o_.download();
      all.insert(all.end(), o.begin(), o.end());
    }
    return all;
  }

 private:
  static spindle_shape layer_shape() {
    auto s = make<spindle_shape>();
    s.q_dtype = SPINDLE_F32;
    s.kv_dtype = SPINDLE_F8E4M3;
    s.num_q_heads = kHeads;
    s.num_kv_heads = kKvHeads;
    s.head_dim_qk = kDim;
    return s;
  }

  static std::vector<float> noise(int count, unsigned seed) {
    std::vector<float> x(static_cast<size_t>(count));
    for (int i = 0; i < count; i++)
      x[static_cast<size_t>(i)] = std::sin(12.9898f * static_cast<float>((i * 7919 + static_cast<int>(seed) * 104729) % 65521));
    return x;
  }

  void upload(const std::vector<Request> &requests) {
    std::vector<int32_t> q_begin(kRequests), q_len(kRequests), kv_len(kRequests), slot(kRequests), pages(kRequests * kTable);
    std::vector<int64_t> q_index(kRequests), page_index(kRequests * kTable);
    std::vector<uint32_t> span(kRequests * kTable);
    for (size_t r = 0; r < requests.size(); r++) {  // entries of no request keep q_len 0
      const Request &from = requests[r];
      q_begin[r] = from.q_begin;
      q_len[r] = from.q_len;
      kv_len[r] = from.kv_len;
      slot[r] = from.slot;
      q_index[r] = from.q_index;
      for (size_t e = 0; e < from.pages.size(); e++) {
        pages[r * kTable + e] = from.pages[e];
        page_index[r * kTable + e] = from.index[e];
        span[r * kTable + e] = from.first[e] | from.end[e] << 16;
      }
    }
    q_begin_.upload(q_begin);
    q_len_.upload(q_len);
    kv_len_.upload(kv_len);
    slot_of_.upload(slot);
    pages_.upload(pages);
    q_index_.upload(q_index);
    page_index_.upload(page_index);
    page_span_.upload(span);
  }

  spindle_batch batch() const {
    auto b = make<spindle_batch>();
    b.max_requests = kRequests;
    b.page_size = kPage;
    b.num_pages = kPages;
    b.q_begin = q_begin_.data();
    b.q_len = q_len_.data();
    b.kv_len = kv_len_.data();
    b.q_index = q_index_.data();
    b.position = slot_of_.data();
    b.pages = pages_.data();
    b.table_stride = kTable;
    b.page_index = page_index_.data();
    b.page_span = page_span_.data();
    return b;
  }

  spindle_cache cache(unsigned char *data) const {
    spindle_cache c{};
    c.data = data;
    c.scale = scale_.data();
    c.scale_head = 1;
    return c;
  }

  void append(int rows) {
    auto a = make<spindle_append_args>();
    a.rows = rows;
    a.page_size = kPage;
    a.num_pages = kPages;
    a.k_new.data = k_new_.data();
    a.v_new.data = v_new_.data();
    a.k = cache(k_.data());
    a.v = cache(v_.data());
    a.slot = slots_.data();
    check(spindle_append(context_, &shape_, nullptr, &a, nullptr));
  }

  spindle_attention_args arguments(int rows) const {
    auto a = make<spindle_attention_args>();
    a.q_rows = rows;
    a.q.data = q_.data();
    a.o.data = o_.data();
    a.k = cache(k_.data());
    a.v = cache(v_.data());
    a.sink_logits = sinks_.data();
    return a;
  }

  spindle_context *context_;
  spindle_shape shape_;
  Plan full_, sliding_;
  Buffer<int32_t> q_begin_, q_len_, kv_len_, slot_of_, pages_;
  Buffer<int64_t> q_index_, page_index_;
  Buffer<uint32_t> page_span_;
  Buffer<int64_t> slots_;
  Buffer<float> q_, k_new_, v_new_, o_;
  Buffer<unsigned char> k_, v_;
  Buffer<float> sinks_, scale_;
};

std::vector<int64_t> slots_of_page(int page, int from, int count) {
  std::vector<int64_t> slots;
  for (int s = 0; s < count; s++) slots.push_back(int64_t(page) * kPage + from + s);
  return slots;
}

// Three steps: a prefill that fills a shared prefix of 20 tokens, a mixed step, and a decode step.
std::vector<std::vector<float>> serve(int backend) {
  auto options = make<spindle_context_options>();
  options.backend = backend;
  spindle_context *context;
  check(spindle_context_create(&context, &options));
  std::vector<std::vector<float>> outputs;
  {
    Server server(context);
    server.admit(0, 1, false);
    server.admit(1, 4, false);
    server.admit(2, 16, true);

    // Step 1: request 0 prefills 20 tokens into pages 9 and 5.
    std::vector<int64_t> slots = slots_of_page(9, 0, 16), tail = slots_of_page(5, 0, 4);
    slots.insert(slots.end(), tail.begin(), tail.end());
    Request first{0, 20, 20, 0, 0, {9, 5}, {0, 16}, {0, 0}, {16, 4}};
    outputs.push_back(server.step({first}, 20, slots, 1));

    // Step 2: request 0 decodes; request 1 puts the same prefix behind 100 tokens of its own that were evicted, and prefills 30
    // tokens after it. The last page of the prefix is half full, so request 1 continues on a fresh page.
    slots = slots_of_page(5, 4, 1);
    for (int page : {30, 31}) {
      tail = slots_of_page(page, 0, page == 30 ? 16 : 14);
      slots.insert(slots.end(), tail.begin(), tail.end());
    }
    first = {0, 1, 21, 20, 0, {9, 5}, {0, 16}, {0, 0}, {16, 5}};
    Request second{1, 30, 50, 120, 1, {9, 5, 30, 31}, {100, 116, 120, 136}, {0, 0, 0, 0}, {16, 4, 16, 14}};
    outputs.push_back(server.step({first, second}, 31, slots, 2));

    // Step 3: all decode, one of them under ReRoPE at an index of half a million; an unused entry lies between.
    slots = {5 * kPage + 5, 31 * kPage + 14, 40 * kPage};
    first = {0, 1, 22, 21, 0, {9, 5}, {0, 16}, {0, 0}, {16, 6}};
    second = {1, 1, 51, 150, 1, {9, 5, 30, 31}, {100, 116, 120, 136}, {0, 0, 0, 0}, {16, 4, 16, 15}};
    Request none{0, 0, 0, 0, 0, {}, {}, {}, {}};
    Request third{2, 1, 13, 500012, 2, {9, 40}, {499990, 500012}, {4, 0}, {16, 1}};
    outputs.push_back(server.step({first, none, second, third}, 3, slots, 3));
  }
  spindle_context_destroy(context);
  return outputs;
}

}  // namespace

int main() {
  try {
    auto got = serve(SPINDLE_BACKEND_CPU), want = serve(SPINDLE_BACKEND_REFERENCE);
    float worst = 0, largest = 0;
    for (size_t step = 0; step < got.size(); step++)
      for (size_t x = 0; x < got[step].size(); x++) {
        worst = std::fmax(worst, std::fabs(got[step][x] - want[step][x]));
        largest = std::fmax(largest, std::fabs(want[step][x]));
      }
    std::printf("%zu steps, largest output %g, worst difference %g\n", got.size(), static_cast<double>(largest),
                static_cast<double>(worst));
    return largest > 0.1f && worst < 2e-5f ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
