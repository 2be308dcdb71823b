#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

// mount.voldfs SOURCE DIRECTORY [-sfnv] [-o OPTIONS]: what mount(8) calls for `mount -t voldfs` and for fstab. It
// becomes voldfs, which checks the options and returns when the mount works.
namespace {

constexpr int kUsage = 1;

// voldfs from beside this program, as in a build directory, else from where it is installed.
void become_voldfs(std::vector<char*>& arguments) {
  char self[PATH_MAX];
  if (const ssize_t size = ::readlink("/proc/self/exe", self, sizeof self - 1); size > 0) {
    std::string path(self, static_cast<size_t>(size));
    path.replace(path.rfind('/') + 1, std::string::npos, "voldfs");
    ::execv(path.c_str(), arguments.data());
  }
  for (const char* path : {"/usr/sbin/voldfs", "/usr/local/sbin/voldfs", "/sbin/voldfs"}) ::execv(path, arguments.data());
  ::execvp("voldfs", arguments.data());
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> places;
  std::string options;
  bool sloppy = false, fake = false, verbose = false;
  // By hand: mount(8) puts the options behind the places.
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument == "-o" || argument == "-t" || argument == "-N") {
      if (++i == argc) return std::cerr << "mount.voldfs: " << argument << " wants a value\n", kUsage;
      if (argument == "-o") options += (options.empty() ? "" : ",") + std::string(argv[i]);
      continue;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      places.push_back(argument);
      continue;
    }
    for (const char letter : argument.substr(1)) {
      switch (letter) {
        case 's': sloppy = true; break;
        case 'f': fake = true; break;
        case 'v': verbose = true; break;
        case 'n': break;  // no /etc/mtab: there is none
        default:
          std::cerr << "mount.voldfs: unknown option -" << letter << "; usage: mount.voldfs SOURCE DIRECTORY [-sfnv] [-o OPTIONS]\n";
          return kUsage;
      }
    }
  }
  if (places.size() != 2) {
    std::cerr << "usage: mount.voldfs MAPFILE|SERVER[,SERVER..]:/VOLUME[/SUBDIRECTORY] DIRECTORY [-sfnv] [-o OPTIONS]\n";
    return kUsage;
  }
  std::vector<std::string> words = {"voldfs", "-o", options.empty() ? "rw" : options};
  if (sloppy) words.push_back("--sloppy");
  words.push_back("--");
  words.insert(words.end(), places.begin(), places.end());
  if (verbose || fake) {
    for (const std::string& word : words) std::cout << word << " ";
    std::cout << "\n";
  }
  if (fake) return 0;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  become_voldfs(arguments);
  std::cerr << "mount.voldfs: cannot run voldfs: " << std::strerror(errno) << "\n";
  return kUsage;
}
