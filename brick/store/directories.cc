#include "brick/store/directories.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "brick/store/credentials.h"
#include "brick/store/handle.h"
#include "brick/store/record.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr time_t kTombstoneLife_s = 24 * 3600;
constexpr unsigned kWalkDepthMax = 2048;  // PATH_MAX / 2
constexpr int kEvictionTries = 16;        // entries looked at for one that nobody holds

std::string bucket_path(const Id& id) {
  const std::string hex = id.hex();
  return hex.substr(0, 2) + '/' + hex;
}

Result<void> make_bucket(int dir, const Id& id) {
  if (mkdirat(dir, id.hex().substr(0, 2).c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_errno();
}

// A system call that makes something in the id's bucket of `dir`, which as a rule is there. What it returned; errno is its own.
template <class Call>
int in_bucket(int dir, const Id& id, Call call) {
  const int done = call();
  if (done >= 0 || errno != ENOENT) return done;
  if (!make_bucket(dir, id)) return done;
  return call();
}

unique_fd make_and_open(int dir, const char* name) {
  mkdirat(dir, name, 0700);  // exists, as a rule; that it does not shows in the open
  return unique_fd(openat(dir, name, kOpenDirectory));
}

bool same_object(int fd1, int fd2) {
  struct stat one, two;
  return fstat(fd1, &one) == 0 && fstat(fd2, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

// The id of a directory that was put on a brick by hand (FORMAT.md, rule 3): the same on every brick.
Id adopted_id(const Id& volume, const Id& parent, const std::string& name) {
  std::string text = "voldfs adopt";
  text.append(reinterpret_cast<const char*>(volume.bytes.data()), volume.bytes.size());
  text.append(reinterpret_cast<const char*>(parent.bytes.data()), parent.bytes.size());
  text += name;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return Id::from_bytes(digest.data());
}

}  // namespace

Directory::Directory(const Id& id, unique_fd fd, const wire::DirRecord& record)
    : id_(id), fd_(std::move(fd)), record_(record) {}

wire::DirRecord Directory::record() const {
  std::lock_guard lock(mutex_);
  return record_;
}

Result<void> Directory::admit(const wire::DirRef& ref, bool reading) const {
  std::lock_guard lock(mutex_);
  if (removed_) return fail(wire::kDirRemoved);
  if (!reading && record_.state == wire::DirState::kRemoving) return fail(wire::kDirRemoved);
  // A copy must not be older than what the client knows; home is never behind.
  if (record_.change < ref.change && !(record_.role & wire::kRoleHome)) return fail(wire::kDirBehind);
  // Epoch 0 hashes as epoch 1: who still looks everywhere asks the same brick first and does no harm.
  const bool same_placement = ref.epoch == 0 && record_.epoch <= 1;
  if (record_.epoch > ref.epoch && !same_placement) return fail(wire::kEpochOld);
  return {};
}

Result<wire::DirRecord> Directory::update(const std::function<Result<void>(wire::DirRecord&)>& edit) {
  std::lock_guard lock(mutex_);
  if (removed_) return fail(wire::kDirRemoved);
  wire::DirRecord changed = record_;
  if (auto edited = edit(changed); !edited) return fail(edited.error());
  const Bytes value = encode_directory(changed);
  if (value == encode_directory(record_)) return record_;
  if (auto set = set_xattr(fd_.get(), kXattrDir, value); !set) return fail(set.error());
  record_ = changed;
  return record_;
}

Result<void> Directory::count_subdirectory(int difference) {
  auto updated = update([&](wire::DirRecord& record) -> Result<void> {
    if (difference < 0 && record.subdirectories == 0) return {};  // voldcheck mends what a crash left
    record.subdirectories += static_cast<uint32_t>(difference);
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

void Directory::set_removed() {
  std::lock_guard lock(mutex_);
  removed_ = true;
}

bool Directory::removed() const {
  std::lock_guard lock(mutex_);
  return removed_;
}

EntriesGuard::EntriesGuard(std::initializer_list<Want> wants) {
  for (const Want& want : wants) {
    if (!want.directory) continue;
    auto same = std::find_if(held_.begin(), held_.end(), [&](const Want& held) { return held.directory == want.directory; });
    if (same == held_.end()) held_.push_back(want);
    else same->exclusive |= want.exclusive;
  }
  std::sort(held_.begin(), held_.end(), [](const Want& a, const Want& b) { return a.directory->id() < b.directory->id(); });
  for (const Want& held : held_) {
    if (held.exclusive) held.directory->entries().lock();
    else held.directory->entries().lock_shared();
  }
}

EntriesGuard::~EntriesGuard() {
  for (const Want& held : held_) {
    if (held.exclusive) held.directory->entries().unlock();
    else held.directory->entries().unlock_shared();
  }
}

Directories::Directories(int root_fd, int dot_fd, const Handles& handles, const Options& options)
    : root_fd_(root_fd), handles_(handles), options_(options) {
  RootScope scope;
  index_ = make_and_open(dot_fd, "index");
  tombs_ = make_and_open(dot_fd, "tombs");
}

Directories::~Directories() = default;

Result<DirectoryPtr> Directories::load_root() {
  if (!index_ || !tombs_) return fail(EIO);
  unique_fd fd(openat(root_fd_, ".", kOpenDirectory));
  if (!fd) return fail_errno();
  std::lock_guard loading(loading_[0]);
  auto root = load(std::move(fd), kRootId);
  if (!root) return root;
  root_ = insert(*root);
  return root_;
}

Result<DirectoryPtr> Directories::find(const Id& id) {
  if (auto known = cached(id)) return known;
  std::lock_guard loading(loading_[IdHash{}(id) % loading_.size()]);
  if (auto known = cached(id)) return known;
  return open_indexed(id);
}

Result<DirectoryPtr> Directories::find(const wire::DirRef& ref, bool reading) {
  auto found = find(ref.id);
  if (!found) return found;
  if (auto admitted = (*found)->admit(ref, reading); !admitted) return fail(admitted.error());
  return found;
}

DirectoryPtr Directories::cached(const Id& id) {
  std::lock_guard lock(mutex_);
  auto found = cache_.find(id);
  if (found == cache_.end()) return nullptr;
  used_.splice(used_.begin(), used_, found->second.used);
  return found->second.directory;
}

// One Directory an id: whoever loads holds the id's stripe of loading_, and a Directory that somebody holds is
// not evicted, so that its locks and its record are the only ones.
DirectoryPtr Directories::insert(DirectoryPtr directory) {
  std::vector<DirectoryPtr> evicted;  // closed after the lock
  std::lock_guard lock(mutex_);
  auto [place, added] = cache_.try_emplace(directory->id());
  if (!added) return place->second.directory;
  const wire::DirRecord record = directory->record();
  if (record.epoch == 0 && (record.role & (wire::kRoleHome | wire::kRoleFound))) has_adopted_.store(true, std::memory_order_relaxed);
  used_.push_front(directory->id());
  place->second = {directory, used_.begin()};
  for (int tries = 0; cache_.size() > options_.open_max && tries < kEvictionTries; ++tries) {
    auto last = cache_.find(used_.back());
    if (last->second.directory.use_count() > 1) {
      used_.splice(used_.begin(), used_, last->second.used);
      continue;
    }
    evicted.push_back(std::move(last->second.directory));
    used_.pop_back();
    cache_.erase(last);
  }
  return directory;
}

Result<DirectoryPtr> Directories::open_indexed(const Id& id) {
  char text[256];
  const ssize_t size = readlinkat(index_.get(), bucket_path(id).c_str(), text, sizeof text);
  if (size < 0 && errno == ENOENT) return fail(has_tombstone(id) ? wire::kDirRemoved : wire::kDirAbsent);
  if (size < 0) return fail_errno();
  auto fd = handles_.open_index_text({text, static_cast<size_t>(size)}, kOpenDirectory);
  if (!fd && fd.error().code != ESTALE && fd.error().code != EINVAL) return fail(fd.error());
  if (fd) {
    auto own = get_id(fd->get());
    if (own && *own == id) {
      auto directory = load(std::move(*fd), id);
      if (!directory) return directory;
      return insert(*directory);
    }
  }
  // Removed while its index entry was not (a kill in between), or the number of its inode was given away.
  spdlog::warn("index-stale directory={}", id.hex());
  unlinkat(index_.get(), bucket_path(id).c_str(), 0);
  return fail(has_tombstone(id) ? wire::kDirRemoved : wire::kDirAbsent);
}

Result<DirectoryPtr> Directories::load(unique_fd fd, const Id& expected) {
  auto value = read_xattr(fd.get(), kXattrDir);
  if (!value) return fail(value.error().code == ENODATA ? Error(EIO) : value.error());
  auto record = decode_directory(*value, expected);
  if (!record) return fail(record.error());
  return std::make_shared<Directory>(expected, std::move(fd), *record);
}

Result<void> Directories::write_index(const Id& id, int fd) {
  auto text = handles_.index_text(fd);
  if (!text) return fail(text.error());
  const std::string path = bucket_path(id);
  if (in_bucket(index_.get(), id, [&] { return symlinkat(text->c_str(), index_.get(), path.c_str()); }) == 0) return {};
  if (errno != EEXIST) return fail_errno();
  char have[256];
  const ssize_t size = readlinkat(index_.get(), path.c_str(), have, sizeof have);
  if (size >= 0 && std::string_view(have, static_cast<size_t>(size)) == *text) return {};
  // Another directory's: replaced in one step, so that the id leads somewhere at every instant.
  const std::string fresh = path + ".new";
  unlinkat(index_.get(), fresh.c_str(), 0);
  if (symlinkat(text->c_str(), index_.get(), fresh.c_str()) != 0) return fail_errno();
  if (renameat(index_.get(), fresh.c_str(), index_.get(), path.c_str()) != 0) return fail_errno();
  return {};
}

Result<DirectoryPtr> Directories::take(const Id& parent, int parent_fd, const std::string& name) {
  unique_fd fd(openat(parent_fd, name.c_str(), kOpenDirectory));
  if (!fd) return fail_errno();
  auto id = get_id(fd.get());
  if (!id && id.error().code != ENODATA) return fail(id.error());
  if (id) {
    auto known = find(*id);
    if (known && same_object((*known)->fd(), fd.get())) return known;
    if (!known && known.error().code != wire::kDirAbsent) return known;
    if (known) id = fail(ENODATA);  // a copy made by hand, attributes and all: it is another directory
  }
  const Id own = id ? *id : adopted_id(options_.volume, parent, name);
  const bool has_record = id && read_xattr(fd.get(), kXattrDir).has_value();
  if (!has_record) {
    auto adopted = adopt(fd.get(), own, parent);
    if (!adopted) return fail(adopted.error());
  }
  RootScope scope;
  std::lock_guard loading(loading_[IdHash{}(own) % loading_.size()]);
  if (auto written = write_index(own, fd.get()); !written) return fail(written.error());
  auto directory = load(std::move(fd), own);
  if (!directory) return directory;
  return insert(*directory);
}

// Rule 3 of FORMAT.md. The id last: until it is there, the directory counts as not yet taken in.
Result<void> Directories::adopt(int fd, const Id& id, const Id& parent) {
  wire::DirRecord record{};
  record.id = id;
  record.parent = parent;
  record.epoch = 0;
  record.home = options_.ordinal;
  record.change = 1;
  record.role = wire::kRoleHome | wire::kRoleMember | wire::kRoleFound;
  record.set.add(options_.ordinal);
  if (auto set = set_xattr(fd, kXattrDir, encode_directory(record)); !set) return set;
  return set_id(fd, id);
}

Result<DirectoryPtr> Directories::establish(unique_fd fd, const wire::DirRecord& record) {
  RootScope scope;
  std::lock_guard loading(loading_[IdHash{}(record.id) % loading_.size()]);
  if (auto set = set_xattr(fd.get(), kXattrDir, encode_directory(record)); !set) return fail(set.error());
  if (auto set = set_id(fd.get(), record.id); !set) return fail(set.error());
  if (auto written = write_index(record.id, fd.get()); !written) return fail(written.error());
  return insert(std::make_shared<Directory>(record.id, std::move(fd), record));
}

Result<void> Directories::forget(const Id& id, bool tombstone) {
  if (tombstone) {
    if (auto made = bury(id); !made) return made;
  }
  std::lock_guard loading(loading_[IdHash{}(id) % loading_.size()]);
  DirectoryPtr gone;
  {
    std::lock_guard lock(mutex_);
    auto found = cache_.find(id);
    if (found != cache_.end()) {
      gone = std::move(found->second.directory);
      used_.erase(found->second.used);
      cache_.erase(found);
    }
  }
  if (gone) gone->set_removed();
  if (tombstone) return {};
  if (unlinkat(index_.get(), bucket_path(id).c_str(), 0) != 0 && errno != ENOENT) return fail_errno();
  return {};
}

bool Directories::has_tombstone(const Id& id) const {
  return faccessat(tombs_.get(), bucket_path(id).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<void> Directories::make_tombstone(const Id& id) {
  RootScope scope;
  const std::string path = bucket_path(id);
  unique_fd fd(in_bucket(tombs_.get(), id, [&] { return openat(tombs_.get(), path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); }));
  if (!fd && errno != ELOOP) return fail_errno();  // ELOOP: one that was an entry of the index
  return {};
}

// The entry of the index becomes the tombstone: one step, where two would leave both or neither for an instant.
Result<void> Directories::bury(const Id& id) {
  RootScope scope;
  const std::string path = bucket_path(id);
  const auto move = [&] { return renameat(index_.get(), path.c_str(), tombs_.get(), path.c_str()); };
  if (move() == 0) return {};
  if (errno != ENOENT) return fail_errno();
  if (auto bucket = make_bucket(tombs_.get(), id); !bucket) return bucket;
  if (move() == 0) return {};
  return errno == ENOENT ? make_tombstone(id) : fail_errno();  // it was not in the index
}

Result<void> Directories::remove_tombstone(const Id& id) {
  if (unlinkat(tombs_.get(), bucket_path(id).c_str(), 0) != 0 && errno != ENOENT) return fail_errno();
  return {};
}

size_t Directories::open_count() const {
  std::lock_guard lock(mutex_);
  return cache_.size();
}

namespace {

// Calls `visit(name, type)` for each entry but "." and "..".
Result<void> each_entry(int dir, const std::function<void(const char*, unsigned char)>& visit) {
  const int own = openat(dir, ".", kOpenDirectory);
  if (own < 0) return fail_errno();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own), closedir);
  if (!stream) {
    close(own);
    return fail_errno();
  }
  while (true) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") visit(entry->d_name, entry->d_type);
  }
  if (errno != 0) return fail_errno();
  return {};
}

}  // namespace

Result<std::vector<Id>> Directories::list(const Id& after, size_t max) const {
  std::vector<Id> ids;
  for (unsigned bucket = after.bytes[0]; bucket < 256 && ids.empty(); ++bucket) {
    Id first{};
    first.bytes[0] = static_cast<uint8_t>(bucket);
    unique_fd fd(openat(index_.get(), first.hex().substr(0, 2).c_str(), kOpenDirectory));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return fail_errno();
    auto read = each_entry(fd.get(), [&](const char* name, unsigned char) {
      if (auto id = Id::parse(name); id && *id > after) ids.push_back(*id);
    });
    if (!read) return fail(read.error());
  }
  std::sort(ids.begin(), ids.end());
  if (ids.size() > max) ids.resize(max);
  return ids;
}

void Directories::sweep_tombstones() {
  const time_t oldest = time(nullptr) - kTombstoneLife_s;
  auto swept = each_entry(tombs_.get(), [&](const char* bucket, unsigned char) {
    unique_fd fd(openat(tombs_.get(), bucket, kOpenDirectory));
    if (!fd) return;
    auto inner = each_entry(fd.get(), [&](const char* name, unsigned char) {
      struct stat stat;
      if (fstatat(fd.get(), name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && stat.st_ctime < oldest) {
        unlinkat(fd.get(), name, 0);
      }
    });
    if (!inner) spdlog::warn("tombstones-unread bucket={} errno={}", bucket, inner.error().code);
  });
  if (!swept) spdlog::warn("tombstones-unread errno={}", swept.error().code);
}

Result<void> Directories::rebuild_index() {
  RootScope scope;
  if (auto below = index_below(root_fd_, 0); !below) return below;
  return index_root();  // last: it says that the index is complete
}

Result<void> Directories::index_root() { return write_index(kRootId, root_fd_); }

Result<void> Directories::index_below(int dir, unsigned depth) {
  if (depth > kWalkDepthMax) return fail(ELOOP);
  std::vector<std::string> names;
  auto read = each_entry(dir, [&](const char* name, unsigned char type) {
    if (type == DT_DIR || type == DT_UNKNOWN) names.emplace_back(name);
  });
  if (!read) return read;
  for (const std::string& name : names) {
    unique_fd fd(openat(dir, name.c_str(), kOpenDirectory));
    if (!fd && errno == ENOTDIR) continue;
    if (!fd) return fail_errno();
    if (auto id = get_id(fd.get())) {
      if (auto written = write_index(*id, fd.get()); !written) return written;
    }
    // Into .voldfs too: what is parked there is in the index.
    if (auto below = index_below(fd.get(), depth + 1); !below) return below;
  }
  return {};
}

}  // namespace voldfs::store
