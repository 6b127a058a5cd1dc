"""Demo: an embedded data set. Animal heads of our own making, rendered with exact groundtruth.

Each picture has its own animal (shape, palette, markings), pose, light, shadows and background, and is a pure
function of (seed, split, index, size). A picture comes about in this order; imports go the other way:

    surface     the head as a function of its shape: skin, ears, neck, landmarks
    scene       all that varies, drawn from the seed; pose and camera
    mesh        the surface as triangles, posed; landmarks and box of a picture
    raster      which triangle each pixel sees; textures
    visible     what the camera sees of the mesh: place, normal, skin and light of each pixel's sample
    paint       brushes, and the chart they paint on
    coat        the fur's colours and markings, eye rims, nose and mouth
    eyes        the eyes, which are painted without a texture
    shading     colours in the light
    hair        strokes of hair, whiskers
    background  a cluttered place, and the animal's shadow on it
    render      one picture
    make        the pictures that ship, rendered into one archive
    archive     that archive as files
    database    the data set

Coordinates of the object: x to the right of the picture, y up, z to the viewer, in units of about one head radius.
"""
