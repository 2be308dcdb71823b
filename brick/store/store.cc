#include "brick/store/store.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstring>
#include <mutex>

#include "brick/store/credentials.h"
#include "brick/store/directories.h"
#include "brick/store/handle.h"
#include "brick/store/map_document.h"
#include "brick/store/name_lock.h"
#include "brick/store/open_files.h"
#include "brick/store/readdir.h"
#include "brick/store/small_file.h"
#include "brick/store/store_init.h"
#include "brick/store/txn_log.h"
#include "brick/store/settled_txns.h"
#include "brick/store/volume_lock.h"
#include "brick/store/xattr.h"

namespace voldfs::store {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kRoomCheck{500};
constexpr size_t kKeyMin = 16;
constexpr uint32_t kMinFreePercentMax = 50;

// Since 6.8; Debian 12's headers do not have it.
constexpr unsigned kStatxMountIdUnique = 0x4000;

// Differs after a reboot and after the file system was mounted anew: unsynced writes may be lost then.
uint64_t verifier_of(int root, const Id& boot) {
  struct statx stat {};
  statx(root, "", AT_EMPTY_PATH, STATX_MNT_ID | kStatxMountIdUnique, &stat);
  std::string text = boot.hex();
  text += '/' + std::to_string(stat.stx_mnt_id);
  return XXH3_64bits(text.data(), text.size()) | 1;  // never 0, which means "not told"
}

Explained<std::vector<uint8_t>> parse_secret(std::string_view text, const std::string& path) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  const auto half1 = Id::parse(text.substr(0, 32));
  const auto half2 = text.size() == 64 ? Id::parse(text.substr(32)) : std::nullopt;
  if (!half1 || !half2) return explain("The brick " + path + ": .voldfs/secret is not 64 hexadecimal digits.");
  std::vector<uint8_t> secret(half1->bytes.begin(), half1->bytes.end());
  secret.insert(secret.end(), half2->bytes.begin(), half2->bytes.end());
  return secret;
}

}  // namespace

struct Store::Impl {
  StoreOptions options;
  Identity identity;
  unique_fd root, dot, lock, tmp, open_dir, parked, txn;
  std::vector<uint8_t> secret;
  uint64_t verifier = 0;
  unsigned position_shift = 0;
  Id boot;
  std::atomic<bool> unclean = false;
  bool serving = false;           // `state` says so

  std::atomic<bool> in_grace = false;

  std::atomic<int64_t> room_checked{0};  // Clock's count; check_room
  std::atomic<bool> has_room{true};
  std::atomic<uint32_t> min_free_percent{1};

  mutable std::mutex map_mutex;
  MapDocument map;                // guarded by map_mutex
  void heed_options();            // of the map, as it is now

  std::unique_ptr<Handles> handles;
  std::unique_ptr<Directories> directories;
  std::unique_ptr<OpenFiles> open_files;
  NameLocks name_locks;
  VolumeLock volume_lock;
  std::unique_ptr<SettledTxns> settled_txns;

  std::string complaint(const std::string& sentence) const { return "The brick " + options.path + " " + sentence; }
  Explained<void> take_lock();
  Explained<void> check_identity();
  Explained<void> load_map();
  Explained<void> load_secrets(std::vector<uint8_t>& key);
  Explained<void> open_folders();
  Explained<void> start_serving();
  Result<void> write_state(const std::string& text);
  Explained<void> check_index(bool moved);
};

Explained<std::unique_ptr<Store>> Store::open(const StoreOptions& options) {
  RootScope scope;
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->root.reset(::open(options.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!impl->root) return explain(impl->complaint(std::string("cannot be opened: ") + std::strerror(errno) + "."));
  impl->dot.reset(openat(impl->root.get(), ".voldfs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!impl->dot || faccessat(impl->dot.get(), "brick.json", F_OK, 0) != 0) {
    if (!options.init) {
      return explain(impl->complaint("is not a brick: make it one with `voldctl brick init`, or start with --init."));
    }
    if (auto made = init(options); !made) return explain(made.error());
    impl->dot.reset(openat(impl->root.get(), ".voldfs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!impl->dot) return explain(impl->complaint(std::string("has no .voldfs: ") + std::strerror(errno) + "."));
  }
  std::vector<uint8_t> key;
  if (auto done = impl->take_lock(); !done) return explain(done.error());
  if (auto done = impl->check_identity(); !done) return explain(done.error());
  if (auto done = check_abilities(impl->dot.get(), options.path, std::nullopt); !done) return explain(done.error());
  if (auto done = impl->load_secrets(key); !done) return explain(done.error());
  if (auto done = impl->load_map(); !done) return explain(done.error());
  impl->heed_options();
  impl->handles = std::make_unique<Handles>(impl->root.get(), key);
  if (auto done = impl->open_folders(); !done) return explain(done.error());
  if (auto done = impl->start_serving(); !done) return explain(done.error());
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Explained<void> Store::Impl::take_lock() {
  lock.reset(openat(dot.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock && errno == EROFS) return check_abilities(dot.get(), options.path, std::nullopt);
  if (!lock) return explain(complaint(std::string("cannot be locked: ") + std::strerror(errno) + "."));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return explain(complaint(std::string("cannot be locked: ") + std::strerror(errno) + "."));
    auto pid = read_small_file(dot.get(), "lock");
    return explain(complaint("is served already, by process " + (pid ? *pid : std::string("?")) +
                             ": stop that one first, or give this one another --path."));
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(lock.get(), 0) != 0 || pwrite(lock.get(), pid.data(), pid.size(), 0) < 0) {
    spdlog::warn("lock-pid-unwritten path={} errno={}", options.path, errno);  // it is for people alone
  }
  return {};
}

Explained<void> Store::Impl::check_identity() {
  auto found = read_identity(dot.get(), options.path);
  if (!found) return explain(found.error());
  if (!*found) return explain(complaint("is not a brick."));
  identity = **found;
  auto root_id = get_id(root.get());
  if (!root_id || *root_id != kRootId) {
    return explain(complaint("has lost its extended attributes (it was copied without them?): restore it with "
                             "`rsync -aHAX` or `tar --xattrs --xattrs-include='*'`, as root."));
  }
  return {};
}

Explained<void> Store::Impl::load_secrets(std::vector<uint8_t>& key) {
  auto key_text = read_small_file(dot.get(), "key");
  if (!key_text || key_text->size() < kKeyMin) return explain(complaint("has no usable .voldfs/key: restore it."));
  key.assign(key_text->begin(), key_text->end());
  auto text = read_small_file(dot.get(), "secret");
  if (!text) return explain(complaint("has no .voldfs/secret: copy it from another brick of the volume."));
  auto parsed = parse_secret(*text, options.path);
  if (!parsed) return explain(parsed.error());
  secret = std::move(*parsed);
  return {};
}

Explained<void> Store::Impl::load_map() {
  Explained<MapDocument> own = explain("");
  if (auto text = read_small_file(dot.get(), "map.json")) own = MapDocument::parse(*text);
  if (own) map = *own;
  if (options.map_file.empty()) {
    return own ? Explained<void>() : explain(complaint("has no usable .voldfs/map.json: start it with --map=FILE."));
  }
  auto text = read_small_file(AT_FDCWD, options.map_file.c_str());
  if (!text) {
    if (own) return {};  // the brick's own copy serves
    return explain("The volume map " + options.map_file + " cannot be read: " + std::strerror(text.error().code) + ".");
  }
  auto given = MapDocument::parse(*text);
  if (!given) return explain(given.error());
  if (given->volume != identity.volume) {
    return explain(complaint("belongs to the volume " + identity.volume.uuid() + ", not to " + given->name + " (" +
                             given->volume.uuid() + "): give the right --path or --map."));
  }
  if (!given->brick(identity.brick)) {
    return explain(complaint("is not in the volume map " + options.map_file + ": give the right --path or --map."));
  }
  const auto change = own ? compare(*own, *given) : MapChange::kNewer;
  if (change == MapChange::kRefused) spdlog::info("map-file-older path={}", options.map_file);
  if (change != MapChange::kNewer) return {};
  if (auto written = write_small_file(dot.get(), "map.json", given->text, 0600); !written) {
    if (!is_full(written.error())) return explain(complaint(std::string("cannot keep the map: ") + std::strerror(written.error().code) + "."));
    spdlog::warn("map-unwritten path={} why=\"the disk is full\"", options.path);
  }
  map = *given;
  return {};
}

Explained<void> Store::Impl::open_folders() {
  struct Folder {
    const char* name;
    unique_fd& fd;
  };
  const Folder folders[] = {{"tmp", tmp}, {"open", open_dir}, {"parked", parked}, {"txn", txn}};
  for (const Folder& folder : folders) {
    if (mkdirat(dot.get(), folder.name, 0700) != 0 && errno != EEXIST) {
      return explain(complaint(std::string("lacks .voldfs/") + folder.name + ": " + std::strerror(errno) + "."));
    }
    folder.fd.reset(openat(dot.get(), folder.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder.fd) return explain(complaint(std::string("lacks .voldfs/") + folder.name + "."));
  }
  if (auto emptied = empty_folder(tmp.get()); !emptied) {
    return explain(complaint(std::string("cannot empty .voldfs/tmp: ") + std::strerror(emptied.error().code) + "."));
  }
  if (auto swept = sweep_unprepared(txn.get()); !swept) {
    return explain(complaint(std::string("cannot read .voldfs/txn: ") + std::strerror(swept.error().code) + "."));
  }
  auto settled = SettledTxns::open(dot.get());
  if (!settled) return explain(complaint(std::string("cannot note what it settles: ") + std::strerror(settled.error().code) + "."));
  settled_txns = std::move(*settled);
  auto shift = find_position_shift(dot.get());
  if (!shift) return explain(complaint("is on a file system whose directory positions do not fit into 53 bits."));
  position_shift = *shift;

  const std::string here = file_system_of(root.get());
  const bool moved = here != identity.file_system;
  if (moved && !options.init) {
    return explain(complaint("is a copy: it was made on another file system (" + identity.file_system + ", not " + here +
                             "). If the original is gone for good, start it once with --init."));
  }
  Directories::Options directory_options;
  directory_options.volume = identity.volume;
  directory_options.ordinal = identity.ordinal;
  directories = std::make_unique<Directories>(root.get(), dot.get(), *handles, directory_options);
  if (auto done = check_index(moved); !done) return done;
  auto loaded = directories->load_root();
  if (!loaded) return explain(complaint("has a damaged record of its root directory: restore it."));
  directories->sweep_tombstones();
  if (moved) {
    identity.file_system = here;
    if (auto written = write_identity(dot.get(), identity); !written) {
      return explain(complaint(std::string("cannot write brick.json: ") + std::strerror(written.error().code) + "."));
    }
  }
  return {};
}

// The root's own entry leads elsewhere: the brick was restored or copied, and no handle is right any more.
Explained<void> Store::Impl::check_index(bool moved) {
  const std::string entry = "index/" + kRootId.hex().substr(0, 2) + '/' + kRootId.hex();
  char have[256];
  const ssize_t size = readlinkat(dot.get(), entry.c_str(), have, sizeof have);
  auto now = handles->index_text(root.get());
  if (!now) return explain(complaint("cannot make file handles any more."));
  const bool fits = size >= 0 && std::string_view(have, static_cast<size_t>(size)) == *now;
  if (fits && !moved) return {};
  spdlog::warn("index-rebuild path={}", options.path);
  if (auto built = directories->rebuild_index(); !built) {
    return explain(complaint(std::string("cannot rebuild its index: ") + std::strerror(built.error().code) + "."));
  }
  return {};
}

// On a full disk over what is there: the file has its block, and so few bytes are written as a whole.
Result<void> Store::Impl::write_state(const std::string& text) {
  auto written = write_small_file(dot.get(), "state", text, 0600);
  if (written || !is_full(written.error())) return written;
  unique_fd state(openat(dot.get(), "state", O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!state) return written;
  if (pwrite(state.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) return fail_errno();
  if (ftruncate(state.get(), static_cast<off_t>(text.size())) != 0 || fsync(state.get()) != 0) return fail_errno();
  return {};
}

Explained<void> Store::Impl::start_serving() {
  boot = options.boot;
  if (boot.is_none()) boot = Id::parse(boot_id()).value_or(Id{});
  verifier = verifier_of(root.get(), boot);
  const auto state = read_small_file(dot.get(), "state");
  const std::string serving_here = "unclean " + boot.uuid();
  // Stays as it is until a scrub has been here, however often the brick starts meanwhile.
  unclean = state && state->starts_with("unclean") && *state != serving_here;
  if (!unclean) {
    if (auto written = write_state(serving_here); !written) {
      return explain(complaint(std::string("cannot be written: ") + std::strerror(written.error().code) + "."));
    }
  }
  serving = true;
  // Who had files open has a session; without one there is nobody to wait for.
  unique_fd sessions(openat(dot.get(), "sessions", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  in_grace = has_files(sessions.get()) || has_files(open_dir.get());
  open_files = std::make_unique<OpenFiles>(open_dir.get(), in_grace);
  if (auto loaded = open_files->load(); !loaded) {
    return explain(complaint(std::string("cannot read .voldfs/open: ") + std::strerror(loaded.error().code) + "."));
  }
  return {};
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Store::~Store() {
  if (!impl_->serving || impl_->unclean) return;
  RootScope scope;
  auto written = impl_->write_state("clean");
  if (!written) spdlog::warn("state-unwritten path={} errno={}", impl_->options.path, written.error().code);
}

const Identity& Store::identity() const { return impl_->identity; }
const std::vector<uint8_t>& Store::secret() const { return impl_->secret; }
int Store::root() const { return impl_->root.get(); }
int Store::dot() const { return impl_->dot.get(); }
int Store::tmp() const { return impl_->tmp.get(); }
int Store::open_dir() const { return impl_->open_dir.get(); }
int Store::parked() const { return impl_->parked.get(); }
int Store::txn() const { return impl_->txn.get(); }
unsigned Store::position_shift() const { return impl_->position_shift; }
uint32_t Store::min_free_percent() const { return impl_->min_free_percent; }
bool Store::unclean() const { return impl_->unclean; }
const Id& Store::boot() const { return impl_->boot; }
uint64_t Store::verifier() const { return impl_->verifier; }

void Store::abandon() { impl_->serving = false; }

void Store::set_clean() {
  RootScope scope;
  // It serves: what was lost before this boot has been found, what may be lost from here on is another matter.
  auto written = impl_->write_state("unclean " + impl_->boot.uuid());
  if (!written) return spdlog::warn("state-unwritten path={} errno={}", impl_->options.path, written.error().code);
  impl_->unclean = false;
}
Directories& Store::directories() { return *impl_->directories; }
Handles& Store::handles() { return *impl_->handles; }
NameLocks& Store::name_locks() { return impl_->name_locks; }
OpenFiles& Store::open_files() { return *impl_->open_files; }
VolumeLock& Store::volume_lock() { return impl_->volume_lock; }
SettledTxns& Store::settled_txns() { return *impl_->settled_txns; }

bool Store::in_grace() const { return impl_->in_grace; }

void Store::end_grace() {
  impl_->in_grace = false;
  impl_->open_files->end_grace();
}

Result<void> Store::check_room() {
  const int64_t now = Clock::now().time_since_epoch().count();
  const int64_t interval = std::chrono::duration_cast<Clock::duration>(kRoomCheck).count();
  int64_t last = impl_->room_checked.load(std::memory_order_relaxed);
  if (now - last >= interval && impl_->room_checked.compare_exchange_strong(last, now)) {
    struct statvfs stat;
    if (fstatvfs(impl_->root.get(), &stat) != 0) return fail_errno();
    const uint64_t percent = impl_->min_free_percent;
    const bool blocks = stat.f_blocks == 0 || stat.f_bavail > stat.f_blocks / 100 * percent;
    const bool inodes = stat.f_files == 0 || stat.f_favail > stat.f_files / 100 * percent;
    impl_->has_room = blocks && inodes;
  }
  if (!impl_->has_room) return fail(ENOSPC);
  return {};
}

std::string Store::map() const {
  std::lock_guard lock(impl_->map_mutex);
  return impl_->map.text;
}

uint64_t Store::map_version() const {
  std::lock_guard lock(impl_->map_mutex);
  return impl_->map.version;
}

std::map<std::string, std::string> Store::map_options() const {
  std::lock_guard lock(impl_->map_mutex);
  return impl_->map.options;
}

void Store::Impl::heed_options() {
  uint32_t percent = options.min_free_percent;
  if (const auto set = map.options.find("brick.min-free"); set != map.options.end()) {
    const std::string& text = set->second;
    uint32_t wanted = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wanted);
    if (error == std::errc() && end == text.data() + text.size() && wanted <= kMinFreePercentMax) percent = wanted;
  }
  min_free_percent = percent;
  room_checked = 0;  // the next one who asks looks anew
}

Result<void> Store::put_map(std::string_view document) {
  auto found = MapDocument::parse(document);
  if (!found) return fail(EINVAL);
  std::lock_guard lock(impl_->map_mutex);
  switch (compare(impl_->map, *found)) {
    case MapChange::kOtherVolume: return fail(EINVAL);
    case MapChange::kRefused: return fail(ESTALE);
    case MapChange::kSame: return {};
    case MapChange::kNewer: break;
  }
  RootScope scope;
  if (auto written = write_small_file(impl_->dot.get(), "map.json", document, 0600); !written) return written;
  impl_->map = std::move(*found);
  impl_->heed_options();
  return {};
}

}  // namespace voldfs::store
