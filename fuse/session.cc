#include "fuse/session.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <new>

#include "fuse/fuse_protocol.h"
#include "fuse/operations.h"
#include "fuse/limits.h"
#include "fuse/reply.h"
#include "fuse/request.h"

namespace voldfs::fuse {
namespace {

// The thread's reply to INIT is to say that requests may come over io_uring, which libfuse 3.17 cannot say.
thread_local bool accept_ring = false;

ssize_t send_init_reply(const std::shared_ptr<Channel>& channel, iovec* parts, int count, ssize_t size) {
  auto* body = static_cast<std::byte*>(count > 1 ? parts[1].iov_base : nullptr);
  if (body && parts[1].iov_len >= protocol::kInitOutFlags2 + 4) {
    const auto set = [body](size_t offset, uint32_t bits) {
      uint32_t flags;
      std::memcpy(&flags, body + offset, sizeof flags);
      flags |= bits;
      std::memcpy(body + offset, &flags, sizeof flags);
    };
    set(protocol::kInitOutFlags, protocol::kInitExt);
    set(protocol::kInitOutFlags2, protocol::kInit2OverIoUring);
  }
  if (const auto sent = channel->send(parts, count); !sent) {
    errno = sent.error().code;
    return -1;
  }
  return size;
}

// The CPUs that the kernel has made queues for: all that could ever be there.
unsigned possible_cpus() {
  std::ifstream possible("/sys/devices/system/cpu/possible");  // "0-3"
  unsigned first = 0, last = 0;
  char dash = 0;
  possible >> first >> dash >> last;
  return last + 1;
}

// How libfuse sends: through the channel of the request that this thread works on, or, from threads that work on
// none (notifications), through the device itself.
ssize_t send_through_channel(int device, iovec* parts, int count, void*) {
  ssize_t size = 0;
  for (int i = 0; i < count; i++) size += static_cast<ssize_t>(parts[i].iov_len);
  const auto& channel = ReplyChannel::current();
  if (!channel) return ::writev(device, parts, count);
  if (accept_ring) return send_init_reply(channel, parts, count, size);
  if (const auto sent = channel->send(parts, count); !sent) {
    errno = sent.error().code;
    return -1;
  }
  return size;
}

ssize_t receive_nothing(int, void*, size_t, void*) {
  errno = ENOTSUP;  // the transport receives
  return -1;
}

void log_of_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  for (size_t length = std::strlen(line); length > 0 && line[length - 1] == '\n'; length--) line[length - 1] = 0;
  if (level <= FUSE_LOG_ERR)
    spdlog::error("fuse.library {}", line);
  else
    spdlog::debug("fuse.library {}", line);
}

}  // namespace

Session::Session(Mount& mount, unique_fd device)
    : mount_(mount), transport_(std::move(device)), workers_(transport_, [this](std::span<std::byte> request) { process(request); }) {}

Session::~Session() {
  wait(0);
  mount_.interrupts.stop();
  mount_.later.stop();
  if (mount_.caches) mount_.caches->stop_verifying();
  if (mount_.kept_opens) mount_.kept_opens->close_all();
  if (session_) fuse_session_destroy(session_);
}

Explained<std::unique_ptr<Session>> Session::start(Mount& mount, unique_fd device) {
  std::unique_ptr<Session> session(new Session(mount, std::move(device)));
  if (auto ready = session->negotiate(); !ready) return explain(std::move(ready.error()));
  mount.session = session->session_;
  if (auto caches = session->serve_caches(); !caches) return explain(std::move(caches.error()));
  if (const auto started = session->start_workers(); !started)
    return explain(std::string("cannot start a thread that serves the mount: ") + std::strerror(started.error().code));
  return session;
}

Explained<void> Session::negotiate() {
  fuse_set_log_func(log_of_libfuse);
  char name[] = "voldfs";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session_ = fuse_session_new(&args, &kOperations, sizeof kOperations, &mount_);
  fuse_opt_free_args(&args);  // libfuse has put its own in their place
  if (!session_) return explain("libfuse refused to make a session; its messages are in the log");
  fuse_custom_io io{};
  io.writev = send_through_channel;
  io.read = receive_nothing;
  unique_fd own(::fcntl(transport_.device(), F_DUPFD_CLOEXEC, 0));  // the session closes its descriptor
  if (!own || fuse_session_custom_io(session_, &io, sizeof io, own.get()) != 0)
    return explain(std::string("cannot hand /dev/fuse to libfuse: ") + std::strerror(errno));
  static_cast<void>(own.release());

  // INIT comes first, and nothing else before it is answered.
  WorkerBuffers buffers;
  const auto request = transport_.first_channel()->receive(buffers.request());
  if (!request || request->empty()) return explain("the kernel ended the mount before it had begun");
  ReplyChannel reply_through(transport_.first_channel());
  protocol::InitIn init{};
  std::memcpy(&init, request->data() + sizeof(protocol::InHeader), std::min(sizeof init, request->size() - sizeof(protocol::InHeader)));
  ring_offered_ = mount_.behaviour.over_io_uring == OverIoUring::kAuto && (init.flags & protocol::kInitExt) &&
                  (init.flags2 & protocol::kInit2OverIoUring) && can_make_rings();
  accept_ring = mount_.over_io_uring = ring_offered_;
  process(*request);
  accept_ring = false;
  if (fuse_session_exited(session_)) return explain("libfuse and the kernel found no common FUSE protocol; see the log");
  return {};
}

// From here on the bricks may take back what the kernel keeps; before, it has nothing.
Explained<void> Session::serve_caches() {
  unique_fd device(::fcntl(transport_.device(), F_DUPFD_CLOEXEC, 0));
  if (!device) return explain(std::string("cannot duplicate the descriptor of /dev/fuse: ") + std::strerror(errno));
  mount_.kept_opens = std::make_unique<KeptOpens>(mount_);
  mount_.caches = std::make_unique<KernelCaches>(std::move(device), mount_);
  MountBehaviour& behaviour = mount_.behaviour;
  if (!mount_.caches->can_drop_names()) {
    spdlog::info("fuse.names kept for fixed times: the kernel is older than 6.16");
    behaviour.entry_timeout_s = behaviour.entry_timeout_s.value_or(kNameTimeoutS);
    behaviour.negative_timeout_s = behaviour.negative_timeout_s.value_or(0);
  }
  mount_.volume->set_caches(mount_.caches.get());
  if (mount_.kernel_passes_through) {
    unique_fd own(::fcntl(transport_.device(), F_DUPFD_CLOEXEC, 0));
    if (!own) return explain(std::string("cannot duplicate the descriptor of /dev/fuse: ") + std::strerror(errno));
    mount_.backings = std::make_unique<BackingFiles>(std::move(own));
  }
  return {};
}

// Once INIT has accepted it, the kernel holds everything back until each queue has an entry.
Result<void> Session::start_workers() {
  if (ring_offered_) {
    mount_.interrupts.look_after_parked([this](uint64_t ticket) { mount_.volume->cancel_lock(ticket); });
    const unsigned cpus = possible_cpus();
    for (unsigned cpu = 0; cpu < cpus; ++cpu) {
      queues_.push_back(std::make_unique<Queue>(transport_.device(), cpu, [this](std::span<std::byte> request) { process(request); }));
      if (auto started = queues_.back()->workers.start(); !started) return started;
    }
  }
  return workers_.start();
}

bool Session::wait(uint32_t timeout_ms) {
  bool over = workers_.wait(timeout_ms);
  for (auto& queue : queues_) over = queue->workers.wait(timeout_ms) && over;
  return over;
}

void Session::process(std::span<std::byte> request) {
  const auto& header = *reinterpret_cast<const protocol::InHeader*>(request.data());
  Request::raw = &header;
  mount_.requests.add(header.opcode);
  if (header.opcode == protocol::kOpStatx && request.size() >= sizeof header + sizeof(protocol::StatxIn)) {
    process_statx(header, *reinterpret_cast<const protocol::StatxIn*>(&header + 1));
    return;
  }
  if (header.opcode == protocol::kOpInterrupt && request.size() >= sizeof header + sizeof(protocol::InterruptIn)) {
    const auto& interrupt = *reinterpret_cast<const protocol::InterruptIn*>(&header + 1);
    if (const uint64_t ticket = mount_.interrupts.interrupt(interrupt.unique); ticket != 0) mount_.volume->cancel_lock(ticket);
    return;
  }
  fuse_buf buffer{};
  buffer.mem = request.data();
  buffer.size = request.size();
  fuse_session_process_buf(session_, &buffer);
}

// libfuse 3.17 does not know STATX, by which the kernel asks for the birth time.
void Session::process_statx(const protocol::InHeader& header, const protocol::StatxIn& in) {
  Result<dht::Entry> found = fail(ENOMEM);
  try {
    found = statx(mount_, header, in);
  } catch (const std::bad_alloc&) {
  }
  protocol::OutHeader out{sizeof out, 0, header.unique};
  iovec parts[2] = {{&out, sizeof out}, {nullptr, 0}};
  const dht::Grants::Delivery delivery(mount_.volume->grants());
  protocol::StatxOut attributes;
  if (found) {
    attributes = to_statx(*found, validity(mount_, *found, delivery).attr_s);
    parts[1] = {&attributes, sizeof attributes};
    out.len += sizeof attributes;
  } else {
    out.error = -to_errno(found.error());
  }
  // Refused only when the kernel has given the request up.
  static_cast<void>(ReplyChannel::current()->send(parts, found ? 2 : 1));
}

}  // namespace voldfs::fuse
