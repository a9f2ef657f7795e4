"""What a server can do with files, besides their content.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import errno
import os
import stat

from ...protocol import files
from ...protocol.files import FileAnswer, FileRequest
from .content import NewContent
from .entries import entry_of
from .places import Place, PlaceError, Roots
from .trash import move_to_trash

_CODES = {
    errno.ENOENT: files.NOT_FOUND,
    errno.EACCES: files.DENIED,
    errno.EPERM: files.DENIED,
    errno.EROFS: files.READ_ONLY,
    errno.EEXIST: files.EXISTS,
    errno.ENOTEMPTY: files.NOT_EMPTY,
    errno.EISDIR: files.WRONG_KIND,
    errno.ENOTDIR: files.NOT_FOUND,
    errno.ELOOP: files.WRONG_KIND,
    errno.ENXIO: files.WRONG_KIND,
    errno.ENOSPC: files.NO_ROOM,
    errno.EDQUOT: files.NO_ROOM,
    errno.EFBIG: files.NO_ROOM,
    errno.ENAMETOOLONG: files.BAD_NAME,
    errno.EINVAL: files.BAD_NAME,
}


def refusal(error: Exception) -> FileAnswer:
    """The answer that says why a request failed."""
    if isinstance(error, PlaceError):
        return FileAnswer(error=error.code, message=str(error))
    if isinstance(error, OSError) and error.errno is not None:
        code = _CODES.get(error.errno, files.FAILED)
        return FileAnswer(error=code, message=os.strerror(error.errno))
    return FileAnswer(error=files.FAILED, message=repr(error))


def answer(request: FileRequest) -> FileAnswer:
    """Do what a request asks that has no content. Raises PlaceError, OSError."""
    roots = Roots(request.roots)
    with roots.place(request.root, request.path, request.follow) as place:
        operation = _OPERATIONS[request.op]
        operation(roots, place, request)
        if request.op in (files.REMOVE, files.TRASH):
            return FileAnswer()
    root, path = request.root, request.path
    if request.op in (files.RENAME, files.COPY):
        root, path = request.to_root, request.to_path
    with roots.place(root, path, request.follow) as place:
        return FileAnswer(entry=entry_of(place, os.path.basename(path)))


def _nothing(roots: Roots, place: Place, request: FileRequest) -> None:
    pass


def _make_directory(roots: Roots, place: Place, request: FileRequest) -> None:
    if place.found is not None:
        if request.create or not stat.S_ISDIR(place.found.st_mode):
            raise PlaceError(files.EXISTS, "it exists already")
        return
    mode = 0o777 if request.mode is None else request.mode & 0o777
    os.mkdir(place.name, mode, dir_fd=place.directory)


def _there(place: Place) -> os.stat_result:
    """The file that a move or removal concerns. Raises PlaceError, FileNotFoundError."""
    if place.name == ".":
        raise PlaceError(files.DENIED, "it is one of the directories that this server may use")
    if place.found is None:
        raise FileNotFoundError(errno.ENOENT, "")
    return place.found


def _trash(roots: Roots, place: Place, request: FileRequest) -> None:
    _there(place)
    move_to_trash(place, roots.text(request.root, request.path))


def _remove(roots: Roots, place: Place, request: FileRequest) -> None:
    if not stat.S_ISDIR(_there(place).st_mode):
        os.unlink(place.name, dir_fd=place.directory)
    elif request.recursive:
        # By descriptors and never through links: rmtree is safe where the system can do that.
        descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in inside:
                _remove_inside(descriptor, name, is_directory)
        finally:
            os.close(descriptor)
        os.rmdir(place.name, dir_fd=place.directory)
    else:
        os.rmdir(place.name, dir_fd=place.directory)


def _remove_inside(directory: int, name: str, is_directory: bool) -> None:
    if not is_directory:
        os.unlink(name, dir_fd=directory)
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        with os.scandir(descriptor) as entries:
            inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for other, is_inner in inside:
            _remove_inside(descriptor, other, is_inner)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=directory)


def _rename(roots: Roots, place: Place, request: FileRequest) -> None:
    found = _there(place)
    with roots.place(request.to_root, request.to_path, follow=False) as to:
        if to.found is not None and request.create:
            same = os.path.samestat(to.found, found)  # only the case of its name differs
            if not same:
                raise PlaceError(files.EXISTS, "{} exists already".format(to.name))
        try:
            os.rename(place.name, to.name, src_dir_fd=place.directory, dst_dir_fd=to.directory)
        except OSError as error:
            if error.errno != errno.EXDEV or not stat.S_ISREG(found.st_mode):
                raise
            _copy_content(place, to, request)
            os.unlink(place.name, dir_fd=place.directory)


def _copy(roots: Roots, place: Place, request: FileRequest) -> None:
    if place.found is None:
        raise FileNotFoundError(errno.ENOENT, "")
    with roots.place(request.to_root, request.to_path, request.follow) as to:
        _copy_content(place, to, request)


def _copy_content(place: Place, to: Place, request: FileRequest) -> None:
    source = open_file(place)
    try:
        mode = stat.S_IMODE(os.fstat(source).st_mode)
        request.mode = mode if request.mode is None else request.mode
        content = NewContent(to, request)
        try:
            while True:
                data = os.read(source, files.CHUNK_BYTES)
                if not data:
                    break
                content.write(data)
            content.keep()
        finally:
            content.close()
    finally:
        os.close(source)


def open_file(place: Place) -> int:
    """A descriptor to read a file. Raises PlaceError, OSError."""
    # Without waiting: the other end of a pipe would never come.
    descriptor = place.open(os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PlaceError(files.WRONG_KIND, "it is not a file")
    return descriptor


_OPERATIONS = {
    files.STAT: _nothing,
    files.MAKE_DIRECTORY: _make_directory,
    files.REMOVE: _remove,
    files.TRASH: _trash,
    files.RENAME: _rename,
    files.COPY: _copy,
}
